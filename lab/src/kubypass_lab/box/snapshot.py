# SPDX-License-Identifier: Apache-2.0
"""Snapshots of a node: routes, rules, addresses, sysctls, netfilter and BPF programs.

Lines about links of pods (lxc…) are left out, because pods come and go between two snapshots.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from kubypass.errors import KubypassError
from kubypass_lab.box.box import Box
from kubypass_lab.box.enter import Target, find_target, run_in
from kubypass_lab.box.process import run

_COMMANDS = {
    "routes": ["ip", "-4", "-j", "route", "show", "table", "all"],
    "IPv6 routes": ["ip", "-6", "-j", "route", "show", "table", "all"],
    "rules": ["ip", "-4", "-j", "rule"],
    "IPv6 rules": ["ip", "-6", "-j", "rule"],
    "addresses": ["ip", "-j", "address"],
    "qdiscs": ["tc", "-j", "qdisc"],
    "BPF on interfaces": ["bpftool", "-j", "net"],
    "netfilter": ["nft", "list", "ruleset"],
    "sysctls": ["sysctl", "-a", "--pattern", r"^net\."],
}
_POD_LINK = "lxc"
_COUNTERS = ("nf_conntrack_count",)
_BPF_KINDS = ("prog", "map", "link")

Snapshot = dict[str, list[str]]  # what -> its lines, sorted


def take_snapshot(box: Box, node: str) -> Snapshot:
    """The state of a node now."""
    target = find_target(box, node)
    snapshot = {name: _lines(target, command) for name, command in _COMMANDS.items()}
    snapshot["BPF on cgroup"] = _attached(target.cgroup.parent)
    snapshot["pins"] = sorted(str(path) for path in box.paths.node_bpffs(target.name).rglob("*"))
    return snapshot


def compare(before: Snapshot, after: Snapshot) -> list[str]:
    """One line for each difference: `routes: + …` or `routes: - …`."""
    lines = []
    for name, old in before.items():
        lines += [f"{name}: - {line}" for line in old if line not in after[name]]
        lines += [f"{name}: + {line}" for line in after[name] if line not in old]
    return lines


def read_bpf_objects(box: Box, node: str) -> set[tuple[str, int]]:
    """The programs, maps and links that a node's agent has pinned, and the maps of the programs, as (kind, id)."""
    found: set[tuple[str, int]] = set()
    for pin in box.paths.node_bpffs(box.topology.node(node).name).rglob("*"):
        if pin.is_file():
            found |= _identify(pin)
    programs = [_show("prog", "id", str(number)) for kind, number in found if kind == "prog"]
    return found | {("map", number) for each in programs if each for number in each.map_ids}


def existing_bpf_objects(objects: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """The members of `objects` that still exist in the kernel."""
    return {(kind, number) for kind, number in objects if _show(kind, "id", str(number))}


class _Entry(msgspec.Struct, frozen=True):
    """bpftool's description of a program, a map or a link."""

    id: int
    prog_id: int = 0
    map_ids: tuple[int, ...] = ()


def _identify(pin: Path) -> set[tuple[str, int]]:
    for kind in _BPF_KINDS:  # bpftool only finds out by trying of which kind a pin is
        entry = _show(kind, "pinned", str(pin))
        if entry:
            return {(kind, entry.id)} | ({("prog", entry.prog_id)} if entry.prog_id else set())
    return set()


def _show(kind: str, by: str, which: str) -> _Entry | None:
    """One object, or None if it does not exist. Lists are not read, because objects of others come and go."""
    try:
        return msgspec.json.decode(run(["bpftool", "-j", kind, "show", by, which]), type=_Entry)
    except KubypassError:
        return None


def _attached(cgroup: Path) -> list[str]:
    lines = []
    for directory in (cgroup, cgroup / "host"):
        text = run(["bpftool", "-j", "cgroup", "show", str(directory)]).strip() or "[]"
        lines += sorted(json.dumps(entry) for entry in json.loads(text))
    return lines


def _lines(target: Target, command: list[str]) -> list[str]:
    text = run_in(target, command).stdout
    lines = text.splitlines()
    if "-j" in command:
        entries = json.loads(text or "[]")
        if (
            command[0] == "bpftool"
        ):  # bpftool prints one object, which has a list for each kind of hook
            entries = [
                entry for group in entries for members in group.values() for entry in members
            ]
        lines = [json.dumps(entry, sort_keys=True) for entry in entries]
    return sorted(
        line for line in lines if not any(name in line for name in (_POD_LINK, *_COUNTERS))
    )
