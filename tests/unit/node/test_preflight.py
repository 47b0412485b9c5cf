# SPDX-License-Identifier: Apache-2.0
"""Settings that do not fit a node are found, those that fit are not; ports are reserved only where enough are left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kubypass.datapath.map_memory import map_memory
from kubypass.model.address import Family
from kubypass.node.preflight import NodeFacts, memory_bytes, preflight
from kubypass.settings.check import check_settings
from kubypass.settings.settings import Settings
from tests.program import KUBYPASS

GIB = 2**30
BOTH: frozenset[Family] = frozenset({4, 6})


def facts(settings: Settings, **given: object) -> NodeFacts:
    known = {
        "devices": frozenset({"lo", "eth0", "eth1"}),
        "families": BOTH,
        "ephemeral": (32768, 60999),
        "memory_bytes": 4 * GIB,
        "map_bytes": map_memory(settings),
    }
    return NodeFacts(**{**known, **given})  # type: ignore[arg-type]


ROWS: dict[str, tuple[dict[str, str], dict[str, object], list[str]]] = {
    "the defaults": ({}, {}, []),
    "devices that are there": ({"devices": "eth0 eth+ !eth1"}, {}, []),
    "a device that is not": ({"devices": "eth0 ens3"}, {}, ["doubtful devices: no device of this node is called ens3"]),
    "a device left out that is not": ({"devices": "!ens3"}, {}, ["doubtful devices: no device of this node is called"]),
    "few ephemeral ports left": (
        {"node-port-range": "30000,60000"}, {}, ["doubtful node-port-range: 30000,60000 would leave 999 of"],
    ),
    "enough ephemeral ports left": ({"node-port-range": "30000,59000"}, {}, []),
    "the node's own range is the NodePorts'": (
        {}, {"ephemeral": (30000, 32000)}, ["doubtful node-port-range: 30000,32767 would leave 0 of"],
    ),
    "no ports to reserve": (
        {"node-port-range": "30000,60000", "enable-auto-protect-node-port-range": "false"}, {}, [],
    ),
    "a family that the node does not have": (
        {"enable-ipv4": "false"}, {"families": frozenset({4})}, ["doubtful enable-ipv4: this node has addresses of"],
    ),
    "one of two families": ({}, {"families": frozenset({6})}, []),
    "half of the memory": (
        {"bpf-ct-global-tcp-max": "8388608"}, {}, ["doubtful bpf-ct-global-tcp-max: the maps take 27"],
    ),
    "more than the memory": (
        {"bpf-ct-global-tcp-max": "8388608"}, {"memory_bytes": GIB}, ["wrong bpf-ct-global-tcp-max: the maps take 27"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "node", "wanted"), ROWS.values(), ids=ROWS)
def test_preflight(given: dict[str, str], node: dict[str, object], wanted: list[str]) -> None:
    settings, findings = check_settings(given)
    assert all(found.level == "accepted" for found in findings)
    found = preflight(settings, facts(settings, **node))
    said = [f"{one.level} {one.keys[0]}: {one.message}" for one in found]
    assert len(said) == len(wanted)
    assert all(line.startswith(start) for line, start in zip(said, wanted, strict=True)), said


def test_this_machine_has_memory() -> None:
    assert memory_bytes() > GIB // 4


def test_config_check_looks_at_this_node(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text('devices: "nothere7"\n')
    words = [KUBYPASS, "config", "check", "--this-node", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "doubtful" in done.stdout
    assert "no device of this node is called nothere7" in done.stdout
    done = subprocess.run([*words, "-o", "json"], capture_output=True, text=True, check=True)
    (found,) = [one for one in json.loads(done.stdout)["node"] if one["keys"] == ["devices"]]
    assert found["level"] == "doubtful"


RESERVE = """
from pathlib import Path
from kubypass.node.record import Record, Kind
from kubypass.node.reserved_ports import release_node_ports, reserve_node_ports
from kubypass.kernel import sysctl
from kubypass.settings.check import check_settings
name, local = "net.ipv4.ip_local_reserved_ports", "net.ipv4.ip_local_port_range"
record = Record(Path("{run}"))
def at(ports):
    return check_settings({{"node-port-range": ports}})[0]
sysctl.write(name, "8080,30005")
sysctl.write(local, "30000 40000")
print(reserve_node_ports(record, at("30000,32767")), sysctl.read(name))
print(reserve_node_ports(record, at("30000,32767")), sysctl.read(name))
print(reserve_node_ports(record, at("30000,33000")), sysctl.read(name))
print(reserve_node_ports(record, at("30000,39999")), sysctl.read(name))
sysctl.write(name, sysctl.read(name) + ",50000-50001")
print(record.undo({{Kind.RESERVED_PORTS: release_node_ports}}), sysctl.read(name))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a network namespace")
def test_only_our_ports_are_given_back(tmp_path: Path) -> None:
    words = ["unshare", "-n", sys.executable, "-c", RESERVE.format(run=tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    first, again, wider, too_wide, back = done.stdout.splitlines()
    assert first == "1 8080,30000-32767"
    assert again == "0 8080,30000-32767"
    assert wider == "1 8080,30000-33000"
    assert too_wide == "0 8080,30000-33000"
    assert back.endswith(" 8080,30005,50000-50001"), back
    assert not list(tmp_path.iterdir())
