# SPDX-License-Identifier: Apache-2.0
"""Takes the entries of an earlier version's map over into this version's.

Fields go by their names, which the maps' own BTF tells: what is new is zero, what is gone is left out. Where there is
both, a field may have another name now: such a map is not taken over, nor one whose keys changed or whose field has
another type. Numbers of enums are trusted, as bpf/kubypass.h promises.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from kubypass.errors import KernelError
from kubypass.kernel.bpf import Map
from kubypass.kernel.btf import Member, Struct
from kubypass.kernel.map_types import map_types

TABLES = ("services", "slots", "backends", "source_ranges", "local_addresses")
"""What the agent writes; identifiers are read back from these."""
CONNECTIONS = ("flows", "socket_peers", "affinities")
"""What the programs write while traffic goes on."""
_ARRAY = 2
_Convert = Callable[[bytes], bytes]
"""Values, one after another."""


class Incompatible(Exception):
    """Why a map cannot be taken over."""


@dataclass(frozen=True, slots=True)
class Carry:
    """One map's entries, on their way."""

    name: str
    old: Map
    new: Map
    convert_keys: _Convert
    convert_values: _Convert
    started: bool = False
    """An agent that was killed has copied before: what is there now is newer."""
    _seen: set[bytes] = field(default_factory=set)
    """Keys of connections that were copied."""

    def run(self) -> int:
        """Copies all entries; how many that were. Those of an array that are zero stay behind."""
        if self.started:
            return self.run_missing()
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
            self.new.update_batch(
                self.convert_keys(keys[:keys_size]),
                self.convert_values(values[:values_size]),
                count,
            )
            done += count
            if self.name in CONNECTIONS:
                self._seen.update(_split(keys, self.old.info.key_size))
        return done

    def run_missing(self) -> int:
        """Copies entries that came since, and leaves alone what is there: as fast as the map can be read."""
        done, seen, size = 0, self._seen, self.old.info.key_size
        for keys, values, count in self.old.chunks():
            width = len(values) // count
            for at, key in enumerate(_split(keys, size)):
                if key not in seen:
                    value = values[at * width : (at + 1) * width]
                    done += self.new.add(self.convert_keys(key), self.convert_values(value))
                    seen.add(key)
        return done


def _split(keys: bytes, size: int) -> list[bytes]:
    return [keys[at : at + size] for at in range(0, len(keys), size)]


def plan_carry(name: str, old: Map, new: Map) -> Carry:
    """How the entries of `old` become those of `new`; Incompatible says why they cannot."""
    before, after = map_types(old), map_types(new)
    if before is None or after is None:
        raise Incompatible("it came without type information")
    keys = conversion(before[0], after[0], exact=True)
    return Carry(name, old, new, keys, conversion(before[1], after[1], exact=False))


def conversion(old: Struct, new: Struct, *, exact: bool) -> _Convert:
    """From the bytes of old structs to those of new ones, field by field; `exact`: with the same fields."""
    if (old.size, old.members) == (new.size, new.members):
        return bytes
    before, after = ({m.name: m for m in one.members if m.name != "pad"} for one in (old, new))
    added, gone = after.keys() - before.keys(), before.keys() - after.keys()
    if (added and gone) or (exact and (added or gone)):
        changed = ", ".join(sorted(added | gone))
        raise Incompatible(f"struct {old.name} has other fields ({changed})")
    for name in after.keys() & before.keys():
        if _type(before[name]) != _type(after[name]):
            raise Incompatible(f"field {name} of struct {old.name} has another type")
    kept = [member for member in after.values() if member.name in before]
    order = list(before)
    places = [order.index(member.name) for member in kept]
    read, write = _layout(list(before.values()), old.size), _layout(kept, new.size)

    def convert(values: bytes) -> bytes:
        return b"".join(
            [write.pack(*[fields[at] for at in places]) for fields in read.iter_unpack(values)]
        )

    return convert


def _type(member: Member) -> tuple[str, int, int]:
    return member.kind, member.size, member.count


def _layout(members: list[Member], size: int) -> struct.Struct:
    """These members as bytes, what is between them as nothing."""
    codes, at = "<", 0
    for member in members:
        length = member.size * member.count
        codes += f"{member.offset - at}x{length}s"
        at = member.offset + length
    return struct.Struct(f"{codes}{size - at}x")


def run_all(carries: list[Carry], notes: list[str]) -> None:
    """Copies, and notes how much or why not."""
    for carry in carries:
        try:
            notes.append(f"{carry.name}: {carry.run()} entries were carried over")
        except KernelError as error:
            notes.append(f"{carry.name}: not all entries were carried over: {error}")
