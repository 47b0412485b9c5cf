# SPDX-License-Identifier: Apache-2.0
"""Loads the compiled programs, or finds those that an earlier agent left; keeps maps and programs pinned (pins.py)."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from kubypass.datapath import layout, map_upgrade, previous_programs
from kubypass.datapath.attach import l3_program
from kubypass.datapath.flow_expiry import expiry_times
from kubypass.datapath.map_upgrade import MapUpgrade
from kubypass.datapath.pins import Pins
from kubypass.datapath.sizes import kernel_sizes
from kubypass.errors import KernelError
from kubypass.kernel.bpf import Map, possible_cpus
from kubypass.kernel.features import XDP_HAS_FRAGS
from kubypass.kernel.libbpf import ObjectFile
from kubypass.kernel.program import Program
from kubypass.model.constants import PORT_PAIRS, REFRESH_NS

_LATE_NS = 600 * 10**9
"""How much longer connections may live that are copied late."""
OBJECTS = ("socket", "bind", "pod", "host")
_L3_OBJECT, _L3_PROGRAMS = "host_l3", ("from_uplink", "to_uplink")
"""The programs of uplinks once more, for packets without Ethernet header."""
XDP_OBJECT, XDP_PROGRAM = "xdp", "xdp_uplink"
"""The program in the drivers of uplinks, and its object."""
XDP_PROGRAMS = (XDP_PROGRAM, "xdp_generic")
"""The same for the generic mode, without frames in several buffers: for these, the kernel makes another sk_buff there
and leaves the length of its MAC header zero (seen on Linux 6.18), so that tc programs would take it for malformed."""


@dataclass(slots=True)
class Datapath:
    """Open maps and programs."""

    pins: Pins
    maps: dict[str, Map]
    programs: dict[str, Program]
    loaded: bool
    """The programs are newly loaded and have to be attached."""
    unpinned: frozenset[str] = frozenset()
    """New maps. They are pinned once they are complete, before programs use them."""
    notes: list[str] = field(default_factory=list)
    """What became of an earlier version's maps."""
    connections: list[MapUpgrade] = field(default_factory=list)
    """Connections of an earlier version that are not copied yet."""


def object_directory() -> Path:
    """The directory of the compiled objects: in the package, or a checkout's build directory; raises KernelError."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "bpf", package.parents[1] / "build" / "bpf"):
        if (candidate / "socket.bpf.o").is_file():
            return candidate
    raise KernelError("find", "the compiled BPF objects", 0, "run make build")


def signature(config: layout.Config, sizes: Mapping[str, int]) -> str:
    """Tells programs apart by their code, their constants and the sizes of their maps."""
    constants = config.pack() + repr(sorted(sizes.items())).encode()
    return hashlib.sha256(constants + _code()).hexdigest()[:16]


@cache
def _code() -> bytes:
    """The objects that this process started with, whatever is built meanwhile."""
    return b"".join(
        (object_directory() / f"{name}.bpf.o").read_bytes()
        for name in (*OBJECTS, _L3_OBJECT, XDP_OBJECT)
    )


def find(pins: Pins) -> Datapath | None:
    """Opens what an earlier agent with the same programs left; None where a part is missing.

    It is also None where another layout is left: an agent was killed while it replaced one by the other.
    """
    if pins.other_layouts():
        return None
    try:
        maps = {name: pins.open_map(name) for name in layout.MAP_NAMES}
        found = sorted(pins.programs.iterdir())
        programs = {path.name: Program.open_pinned(str(path)) for path in found}
    except (KernelError, FileNotFoundError):
        return None
    return Datapath(pins, maps, programs, loaded=False)


def load(pins: Pins, config: layout.Config, sizes: Mapping[str, int]) -> Datapath:
    """Loads the programs with the pinned maps where these fit, and with new ones elsewhere. Attaches nothing."""
    others = sorted(path.name for path in pins.other_layouts())
    notes = [f"maps of another layout ({name}) are replaced" for name in others]
    maps = _reusable(pins, sizes, notes)
    kept = set(maps)
    programs = load_programs(OBJECTS, maps, sizes, lambda opened: opened.set_rodata(config.pack()))
    upgrades = map_upgrade.plan_upgrades(pins, maps, kept, notes)
    map_upgrade.copy_all([one for one in upgrades if one.name in map_upgrade.TABLES], notes)
    connections = [one for one in upgrades if one.name in map_upgrade.CONNECTIONS]
    unpinned = frozenset(layout.MAP_NAMES) - kept
    return Datapath(pins, maps, programs, True, unpinned, notes, connections)


def needs_l3_programs(datapath: Datapath) -> bool:
    """Whether the programs for uplinks without Ethernet header are still to be loaded."""
    return l3_program(_L3_PROGRAMS[0]) not in datapath.programs


def load_l3_programs(
    datapath: Datapath, config: layout.Config, sizes: Mapping[str, int]
) -> dict[str, Program]:
    """Loads the programs for uplinks without Ethernet header; they use the same maps."""
    return load_programs(
        (_L3_OBJECT,), dict(datapath.maps), sizes, lambda opened: opened.set_rodata(config.pack())
    )


def add_l3_programs(datapath: Datapath, loaded: Mapping[str, Program]) -> None:
    """Pins these programs and makes them part of the datapath."""
    datapath.pins.programs.mkdir(parents=True, exist_ok=True)
    for name in _L3_PROGRAMS:
        datapath.programs[l3_program(name)] = loaded[name]
        _replace_pin(loaded[name], datapath.pins.programs / l3_program(name))


def add_xdp_program(
    datapath: Datapath, config: layout.Config, sizes: Mapping[str, int], name: str
) -> Program:
    """Loads the program for drivers of uplinks, one of XDP_PROGRAMS, unless it is there; it uses the same maps."""
    if name not in datapath.programs:
        frags = int(name == XDP_PROGRAM and config.frags)
        constants = config._replace(frags=frags).pack()
        loaded = load_programs(
            (XDP_OBJECT,), datapath.maps, sizes, lambda opened: opened.set_rodata(constants)
        )[XDP_PROGRAM]
        datapath.pins.programs.mkdir(parents=True, exist_ok=True)
        datapath.programs[name] = loaded
        _replace_pin(loaded, datapath.pins.programs / name)
    return datapath.programs[name]


def drop_xdp_programs(datapath: Datapath, *, keep: str = "") -> None:
    """Lets go of the programs for uplinks' drivers but the one that is kept; call it once no link has them."""
    for name in XDP_PROGRAMS:
        if name != keep:
            datapath.programs.pop(name, None)
            (datapath.pins.programs / name).unlink(missing_ok=True)


def load_programs(
    names: Iterable[str],
    maps: dict[str, Map],
    sizes: Mapping[str, int],
    set_constants: Callable[[ObjectFile], None],
) -> dict[str, Program]:
    """Loads objects with these maps. A map that is missing is made, of the size in `sizes`, and added to `maps`."""
    programs: dict[str, Program] = {}
    for name in names:
        with ObjectFile(object_directory() / f"{name}.bpf.o") as opened:
            set_constants(opened)
            if name == XDP_OBJECT and layout.Config.unpack(_config_in(opened)).frags:
                opened.set_program_flags(XDP_PROGRAM, XDP_HAS_FRAGS)
            opened.set_max_entries(kernel_sizes(sizes, possible_cpus()))
            opened.reuse_maps({key: value.fd for key, value in maps.items()})
            opened.load()
            for key in opened.map_names:
                maps.setdefault(key, Map(os.dup(opened.map_fd(key))))
            for key in opened.program_names:
                programs[key] = Program(os.dup(opened.program_fd(key)))
    return programs


def prepare_switch(datapath: Datapath) -> None:
    """Copies an earlier version's connections. Call it last before the links are switched.

    Maps are pinned from here on: if we are killed while links are switched, nothing that programs have noted is lost.
    Until `finish_switch`, our programs try the previous ones for connections that they do not know.
    """
    map_upgrade.copy_all(datapath.connections, datapath.notes)
    pins = datapath.pins
    pins.maps.mkdir(parents=True, exist_ok=True)
    if datapath.connections:
        _note_transient_ports(datapath.maps)
        previous = datapath.maps[previous_programs.MAP]
        previous_programs.attach_pinned(previous, pins.programs, datapath.notes)
    for name in datapath.unpinned:
        _replace_pin(datapath.maps[name], pins.maps / name)


def finish_switch(datapath: Datapath) -> None:
    """Pins the programs and removes the pins of other layouts. Call it once the links are switched."""
    pins = datapath.pins
    if datapath.connections:
        previous = datapath.maps[previous_programs.MAP]
        previous_programs.stop_new(previous)
        _copy_late(datapath)
        previous_programs.detach(previous)
        _copy_late(datapath)  # a program may have been running at the switch
        datapath.connections.clear()
    pins.programs.mkdir(exist_ok=True)
    for name, program in datapath.programs.items():
        _replace_pin(program, pins.programs / name)
    for other in pins.other_layouts():
        shutil.rmtree(other)


def pin_missing(datapath: Datapath) -> int:
    """Pins maps and programs whose pins somebody has removed; returns how many."""
    pins = datapath.pins
    wanted: dict[Path, Map | Program] = {pins.maps / key: one for key, one in datapath.maps.items()}
    wanted.update({pins.programs / name: each for name, each in datapath.programs.items()})
    missing = {path: opened for path, opened in wanted.items() if not path.exists()}
    for directory in (pins.maps, pins.programs, pins.links):
        directory.mkdir(parents=True, exist_ok=True)
    for path, opened in missing.items():
        opened.pin(str(path))
    return len(missing)


def _config_in(opened: ObjectFile) -> bytes:
    return opened.rodata()[: layout.CONFIG_SIZE]


def _note_transient_ports(maps: Mapping[str, Map]) -> None:
    """Has programs look into `transient_flows` for any ports, until the entries that were copied have expired."""
    latest, now = 0, time.monotonic_ns()
    for _, values, count in maps["transient_flows"].chunks():
        latest = max(latest, *expiry_times(values)[:count], 0)
    until = (max(latest, now) + _LATE_NS) // REFRESH_NS
    keys = struct.pack(f"={PORT_PAIRS}I", *range(PORT_PAIRS))
    maps["transient_ports"].update_batch(keys, struct.pack("=I", until) * PORT_PAIRS, PORT_PAIRS)


def _copy_late(datapath: Datapath) -> None:
    """Copies connections that were opened while others were copied."""
    for late in datapath.connections:
        late.copy_missing()


def _replace_pin(opened: Map | Program, path: Path) -> None:
    path.unlink(missing_ok=True)
    opened.pin(str(path))


def _reusable(pins: Pins, sizes: Mapping[str, int], notes: list[str]) -> dict[str, Map]:
    """The pinned maps of this layout that have the right size."""
    maps, wanted_sizes = {}, kernel_sizes(sizes, possible_cpus())
    for name in layout.MAP_NAMES:
        # Every load has its own previous programs.
        if name == previous_programs.MAP or not (pins.maps / name).exists():
            continue
        opened = pins.open_map(name)
        wanted = wanted_sizes.get(name, opened.info.max_entries)
        if opened.info.max_entries == wanted:
            maps[name] = opened
        else:
            notes.append(f"map {name} is rebuilt: {opened.info.max_entries} -> {wanted} entries")
    return maps
