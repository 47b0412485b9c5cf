# SPDX-License-Identifier: Apache-2.0
"""Copies the entries of an earlier version's maps into this version's.

Fields are matched by name, which the BTF of the maps tells; `renames` knows names that changed. A field that is new
becomes zero, and a field that is gone is left out. A map is not copied if it has fields of both kinds, since one of
them may be the other under another name. Neither is a map whose key has other fields, nor one whose field has another
type. Numbers of enums keep their meaning, as bpf/kubypass.h promises.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from kubypass.datapath import layout, renames
from kubypass.datapath.pins import Pins
from kubypass.datapath.sizes import FLOW_MAPS
from kubypass.errors import KernelError
from kubypass.kernel.bpf import Map
from kubypass.kernel.btf import Member, Struct
from kubypass.kernel.map_types import map_types
from kubypass.model.protocol import Protocol

TABLES = ("services", "slots", "maglev", "backends", "source_ranges", "local_addresses")
"""Maps that the agent writes; identifiers are read back from them."""
CONNECTIONS = (*FLOW_MAPS, "socket_peers", "affinities")
"""Maps that the programs write while traffic goes on."""
_ONE_FOR_ALL = {"transient_flows": "flows"}
"""Maps that take a part of another one: a version before had one map of flows, for all protocols."""
_ARRAY = 2
_Convert = Callable[[bytes], bytes]
"""Converts keys or values that stand one after another."""


class Incompatible(Exception):
    """Why a map cannot be copied."""


@dataclass(frozen=True, slots=True)
class MapUpgrade:
    """One map's entries on their way from an earlier version's map to ours."""

    name: str
    old: Map
    new: Map
    convert_keys: _Convert
    convert_values: _Convert
    started: bool = False
    """An agent that was killed has begun to copy: what the new map holds is newer."""
    protocols: frozenset[int] = frozenset(range(256))
    """The connections that have their place in the new map."""
    _seen: set[bytes] = field(default_factory=set)
    """Keys of connections that were copied."""

    def copy(self) -> int:
        """Copies all entries and returns their number. Zeros of an array are not written."""
        if self.started:
            return self.copy_missing()
        done, is_array = 0, self.new.info.type == _ARRAY
        for keys, values, found in self.old.chunks():
            room = max(0, self.new.info.max_entries - done) if is_array else found
            count = min(found, room)
            if is_array and not values.strip(b"\0"):
                done += count
                continue
            keys_size, values_size = (
                count * self.old.info.key_size,
                count * self.old.info.value_size,
            )
            done += self._write(
                self.convert_keys(keys[:keys_size]),
                self.convert_values(values[:values_size]),
                count,
            )
            if self.name in CONNECTIONS:
                self._seen.update(_split(keys, self.old.info.key_size))
        return done

    def _write(self, keys: bytes, values: bytes, count: int) -> int:
        """Writes the entries that have their place in the new map, and returns their number."""
        if self.name in FLOW_MAPS and count:
            both = zip(
                _split(keys, len(keys) // count), _split(values, len(values) // count), strict=True
            )
            taken = [(key, value) for key, value in both if self._takes(key)]
            keys, values = (
                (b"".join(part) for part in zip(*taken, strict=True)) if taken else (b"", b"")
            )
            count = len(taken)
        if count:
            self.new.update_batch(keys, values, count)
        return count

    def _takes(self, key: bytes) -> bool:
        return self.name not in FLOW_MAPS or key[layout.TUPLE_PROTOCOL_AT] in self.protocols

    def copy_missing(self) -> int:
        """Copies entries that came since, and returns their number. It costs no more than to read the old map."""
        done, seen, size = 0, self._seen, self.old.info.key_size
        for keys, values, count in self.old.chunks():
            width = len(values) // count
            for at, key in enumerate(_split(keys, size)):
                if key not in seen:
                    value, ours = values[at * width : (at + 1) * width], self.convert_keys(key)
                    if self._takes(ours):
                        done += self.new.add(ours, self.convert_values(value))
                    seen.add(key)
        return done


def _split(keys: bytes, size: int) -> list[bytes]:
    return [keys[at : at + size] for at in range(0, len(keys), size)]


def plan_upgrades(
    pins: Pins, maps: Mapping[str, Map], kept: set[str], notes: list[str]
) -> list[MapUpgrade]:
    """Finds the pinned maps whose entries this version takes; a note tells of each that it cannot take.

    `kept` names those of `maps` that were there before. A new map takes the entries of the same map of another size,
    or else those of the version that ran here last. Where a kept map has another layout beside it, an agent was killed
    while it copied connections.
    """
    newest = pins.other_layouts()[-1:]
    upgrades = []
    for name in (*TABLES, *CONNECTIONS):
        started = name in kept
        directories = (*([] if started else [pins.maps]), *newest)
        names = (*renames.map_names(name), *filter(None, [_ONE_FOR_ALL.get(name)]))
        paths = (place / each for place in directories for each in names)
        found = next((path for path in paths if path.exists()), None)
        if found is None or (started and name not in CONNECTIONS):
            continue
        try:
            planned = plan_upgrade(name, Map.open_pinned(str(found)), maps[name])
            if found.name == "flows":  # of a version that had one map for all protocols, perhaps
                tcp = frozenset({int(Protocol.TCP)})
                protocols = tcp if name == "flows" else planned.protocols - tcp
                planned = replace(planned, protocols=protocols)
            upgrades.append(replace(planned, started=started))
        except Incompatible as reason:
            notes.append(f"{name}: nothing was carried over: {reason}")
    return upgrades


def plan_upgrade(name: str, old: Map, new: Map) -> MapUpgrade:
    """Says how the entries of `old` become those of `new`; raises Incompatible where they cannot."""
    before, after = map_types(old), map_types(new)
    if before is None or after is None:
        raise Incompatible("it came without type information")
    keys = conversion(before[0], after[0], exact=True)
    return MapUpgrade(name, old, new, keys, conversion(before[1], after[1], exact=False))


def conversion(old: Struct, new: Struct, *, exact: bool) -> _Convert:
    """Makes the function that turns old structs into new ones field by field; `exact` allows the same fields only."""
    if (old.size, old.members) == (new.size, new.members):
        return bytes
    before, after = _fields(old, renames.field_names(new.name)), _fields(new, {})
    added, gone = after.keys() - before.keys(), before.keys() - after.keys()
    if (added and gone) or (exact and (added or gone)):
        changed = ", ".join(sorted(added | gone))
        raise Incompatible(f"struct {old.name} has other fields ({changed})")
    for name in after.keys() & before.keys():
        if _type(before[name]) != _type(after[name]):
            raise Incompatible(f"field {name} of struct {old.name} has another type")
    kept = [member for name, member in after.items() if name in before]
    order = list(before)
    places = [order.index(member.name) for member in kept]
    read, write = _layout(list(before.values()), old.size), _layout(kept, new.size)

    def convert(values: bytes) -> bytes:
        return b"".join(
            [write.pack(*[fields[at] for at in places]) for fields in read.iter_unpack(values)]
        )

    return convert


def _fields(struct_: Struct, renamed: Mapping[str, str]) -> dict[str, Member]:
    """The members by this version's names, without padding."""
    names = {member.name for member in struct_.members}
    current = {old: new for old, new in renamed.items() if new not in names}
    return {current.get(m.name, m.name): m for m in struct_.members if m.name != "pad"}


def _type(member: Member) -> tuple[str, int, int]:
    return member.kind, member.size, member.count


def _layout(members: list[Member], size: int) -> struct.Struct:
    """Reads or writes these members as bytes; what is between them is skipped, or written as zeros."""
    codes, at = "<", 0
    for member in members:
        length = member.size * member.count
        codes += f"{member.offset - at}x{length}s"
        at = member.offset + length
    return struct.Struct(f"{codes}{size - at}x")


def copy_all(upgrades: list[MapUpgrade], notes: list[str]) -> None:
    """Copies, and notes how many entries were copied or why not all."""
    for upgrade in upgrades:
        try:
            notes.append(f"{upgrade.name}: {upgrade.copy()} entries were carried over")
        except KernelError as error:
            notes.append(f"{upgrade.name}: not all entries were carried over: {error}")
