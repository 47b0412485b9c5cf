# SPDX-License-Identifier: Apache-2.0
"""Loads the compiled programs, or finds those that an earlier agent left, and keeps maps and programs pinned.

<bpffs>/kubypass/<layout hash>/<map>       maps; another layout is another directory
<bpffs>/kubypass/programs/<program>        the programs that new pods get
<bpffs>/kubypass/links/<hook or device>    attachments (attach.py)
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from kubypass.datapath import layout, map_upgrade, previous_programs
from kubypass.datapath.map_upgrade import Carry
from kubypass.datapath.previous_programs import FORMER
from kubypass.errors import KernelError
from kubypass.kernel.bpf import Map
from kubypass.kernel.libbpf import ObjectFile
from kubypass.kernel.program import Program

OBJECTS = ("socket", "bind", "pod", "host")
LINKS = "links"
_PROGRAMS = "programs"


@dataclass(slots=True)
class Datapath:
    """Open maps and programs. `loaded` tells whether programs were loaded anew and have to be attached."""

    directory: Path
    maps: dict[str, Map]
    programs: dict[str, Program]
    loaded: bool
    unpinned: frozenset[str]
    """Maps that were made anew, to be pinned once they are complete, before programs use them."""
    notes: list[str]
    """What became of an earlier version's maps."""
    connections: list[Carry] = field(default_factory=list)
    """Of an earlier version, not taken over yet."""


def object_directory() -> Path:
    """Where the compiled objects are: in the package, or in a checkout's build directory."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "bpf", package.parents[1] / "build" / "bpf"):
        if (candidate / "socket.bpf.o").is_file():
            return candidate
    raise KernelError("find", "the compiled BPF objects", 0, "run make build")


def signature(config: layout.Config, sizes: Mapping[str, int]) -> str:
    """Tells programs apart: their code, their constants, and the sizes of their maps."""
    constants = config.pack() + repr(sorted(sizes.items())).encode()
    return hashlib.sha256(constants + _code()).hexdigest()[:16]


@cache
def _code() -> bytes:
    """The objects that this process started with, whatever is built meanwhile."""
    return b"".join((object_directory() / f"{name}.bpf.o").read_bytes() for name in OBJECTS)


def find(directory: Path) -> Datapath | None:
    """What an earlier agent with the same programs left, or None where a part is missing.

    Where another layout is left as well, an agent was killed while it replaced one by the other.
    """
    if _other_layouts(directory):
        return None
    try:
        pins = directory / layout.LAYOUT_HASH
        maps = {name: Map.open_pinned(str(pins / name)) for name in layout.MAP_NAMES}
        found = sorted((directory / _PROGRAMS).iterdir())
        programs = {path.name: Program.open_pinned(str(path)) for path in found}
    except (KernelError, FileNotFoundError):
        return None
    return Datapath(directory, maps, programs, loaded=False, unpinned=frozenset(), notes=[])


def load(directory: Path, config: layout.Config, sizes: Mapping[str, int]) -> Datapath:
    """Loads the programs over the pinned maps where these fit, over new ones elsewhere. Attaches nothing."""
    notes = [f"maps of another layout ({name}) are replaced" for name in _other_layouts(directory)]
    maps = _reusable(directory / layout.LAYOUT_HASH, sizes, notes)
    kept = set(maps)
    programs = load_programs(OBJECTS, maps, sizes, lambda opened: opened.set_rodata(config.pack()))
    carries = _plan_carries(directory, maps, kept, notes)
    map_upgrade.run_all([one for one in carries if one.name in map_upgrade.TABLES], notes)
    connections = [one for one in carries if one.name in map_upgrade.CONNECTIONS]
    unpinned = frozenset(layout.MAP_NAMES) - kept
    return Datapath(
        directory,
        maps,
        programs,
        loaded=True,
        unpinned=unpinned,
        notes=notes,
        connections=connections,
    )


def load_programs(
    names: Iterable[str],
    maps: dict[str, Map],
    sizes: Mapping[str, int],
    set_constants: Callable[[ObjectFile], None],
) -> dict[str, Program]:
    """Loads objects over these maps; those that are missing are made, of these sizes, and are then among them."""
    programs: dict[str, Program] = {}
    for name in names:
        with ObjectFile(object_directory() / f"{name}.bpf.o") as opened:
            set_constants(opened)
            opened.set_max_entries(sizes)
            opened.reuse_maps({key: value.fd for key, value in maps.items()})
            opened.load()
            for key in opened.map_names:
                maps.setdefault(key, Map(os.dup(opened.map_fd(key))))
            for key in opened.program_names:
                programs[key] = Program(os.dup(opened.program_fd(key)))
    return programs


def carry_connections(datapath: Datapath) -> None:
    """Takes an earlier version's connections over. To be called last before the links are switched.

    Maps are pinned from here on: if we are killed while links are switched, nothing that programs have noted is lost.
    Until `pin`, the former programs are asked about connections that are not known.
    """
    map_upgrade.run_all(datapath.connections, datapath.notes)
    pins = datapath.directory / layout.LAYOUT_HASH
    pins.mkdir(parents=True, exist_ok=True)
    if datapath.connections:
        programs = datapath.directory / _PROGRAMS
        previous_programs.ask_pinned(datapath.maps[FORMER], programs, datapath.notes)
    for name in datapath.unpinned:
        _replace_pin(datapath.maps[name], pins / name)


def pin(datapath: Datapath) -> None:
    """Keeps the programs; pins of other layouts and sizes go. To be called once the links are switched."""
    if datapath.connections:
        previous_programs.let_us_open(datapath.maps[FORMER])
        _carry_late(datapath)
        previous_programs.let_go(datapath.maps[FORMER])
        _carry_late(datapath)  # a program may have been running at the switch
        datapath.connections.clear()
    (datapath.directory / _PROGRAMS).mkdir(exist_ok=True)
    for name, program in datapath.programs.items():
        _replace_pin(program, datapath.directory / _PROGRAMS / name)
    for other in _other_layouts(datapath.directory):
        shutil.rmtree(datapath.directory / other)


def pin_missing(datapath: Datapath) -> int:
    """Keeps maps and programs whose pins somebody has removed; returns how many."""
    maps, programs = datapath.directory / layout.LAYOUT_HASH, datapath.directory / _PROGRAMS
    wanted: dict[Path, Map | Program] = {maps / name: each for name, each in datapath.maps.items()}
    wanted.update({programs / name: each for name, each in datapath.programs.items()})
    missing = {path: opened for path, opened in wanted.items() if not path.exists()}
    for directory in (maps, programs, datapath.directory / LINKS):
        directory.mkdir(parents=True, exist_ok=True)
    for path, opened in missing.items():
        opened.pin(str(path))
    return len(missing)


def _carry_late(datapath: Datapath) -> None:
    """Connections that were opened while others were carried over follow."""
    for late in datapath.connections:
        late.run_missing()


def _replace_pin(opened: Map | Program, path: Path) -> None:
    path.unlink(missing_ok=True)
    opened.pin(str(path))


def _other_layouts(directory: Path) -> list[str]:
    if not directory.is_dir():
        return []
    known = (LINKS, _PROGRAMS, layout.LAYOUT_HASH)
    return sorted(path.name for path in directory.iterdir() if path.name not in known)


def _reusable(pins: Path, sizes: Mapping[str, int], notes: list[str]) -> dict[str, Map]:
    maps = {}
    for name in layout.MAP_NAMES:
        if name == FORMER or not (pins / name).exists():  # every load has its own predecessor
            continue
        opened = Map.open_pinned(str(pins / name))
        wanted = sizes.get(name, opened.info.max_entries)
        if opened.info.max_entries == wanted:
            maps[name] = opened
        else:
            notes.append(f"map {name} is made anew: {opened.info.max_entries} -> {wanted} entries")
    return maps


def _plan_carries(
    directory: Path, maps: Mapping[str, Map], kept: set[str], notes: list[str]
) -> list[Carry]:
    """Maps made anew, and those with the same name of another size, or of the last version that ran here.

    Where another layout is left beside ours, an agent was killed while it carried connections over.
    """
    others = [directory / name for name in _other_layouts(directory)]
    newest = sorted(others, key=lambda path: path.stat().st_mtime)[-1:]
    carries = []
    for name in (*map_upgrade.TABLES, *map_upgrade.CONNECTIONS):
        started = name in kept
        places = (*([] if started else [directory / layout.LAYOUT_HASH]), *newest)
        found = [place / name for place in places if (place / name).exists()]
        if not found or (started and name not in map_upgrade.CONNECTIONS):
            continue
        try:
            planned = map_upgrade.plan_carry(name, Map.open_pinned(str(found[0])), maps[name])
            carries.append(replace(planned, started=started))
        except map_upgrade.Incompatible as reason:
            notes.append(f"{name}: nothing was carried over: {reason}")
    return carries
