# SPDX-License-Identifier: Apache-2.0
"""Leases and configurations on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kubypass.cni import conflist
from kubypass.cni.leases import Lease, Leases
from kubypass.cni.node_config import NodeConfig, outside, shortage
from kubypass.cni.protocol import Attachment
from kubypass.model.address import parse_address
from kubypass.model.cidr import parse_cidr
from kubypass.node.pod_records import read_pods


@pytest.fixture
def leases(tmp_path: Path) -> Leases:
    (tmp_path / "pods").mkdir()
    return Leases(tmp_path / "pods", tmp_path / "last")


def made(name: str, *addresses: str) -> Lease:
    found = tuple(map(parse_address, addresses))
    return Lease(Attachment(name, "eth0"), "kubypass", "default", name, "u", "/run/netns/x", found)


def test_leases_are_found_again(leases: Leases, tmp_path: Path) -> None:
    first, second = made("first", "10.0.0.2", "fd00::2"), made("second", "10.0.0.3")
    leases.keep(first)
    leases.keep(second)
    again = Leases(tmp_path / "pods", tmp_path / "last")
    again.load()
    assert set(again) == {first, second}
    assert again.last == second.addresses
    again.release(first.attachment)
    again.release(first.attachment)
    assert again.used() == set(second.addresses)
    assert [pod.name for pod in read_pods(tmp_path / "pods")[0]] == ["second"]


def test_records_of_others_are_leases_and_stay(leases: Leases, tmp_path: Path) -> None:
    record = {
        "name": "x",
        "addresses": ["10.0.0.9"],
        "interface": "lxc1",
        "mac": "02:00:00:00:00:01",
    }
    (tmp_path / "pods/other.json").write_text(json.dumps(record))
    (tmp_path / "pods/broken.json").write_text("{")
    (tmp_path / "pods/.half.json.new").write_text("{")
    leases.load()
    assert list(leases) == []
    assert leases.used() == {parse_address("10.0.0.9")}
    assert not (tmp_path / "pods/.half.json.new").exists()


def test_the_node_config_says_what_is_short() -> None:
    cidr = parse_cidr("10.0.0.0/30")
    config = NodeConfig("n1", (cidr, parse_cidr("fd00::/112")), {}, 1500)
    assert shortage(config, ()) is None
    message, hint = shortage(config, {parse_address("10.0.0.2")}) or ("", "")
    assert message == "no address is free in 10.0.0.0/30: 1 of 1 addresses are used"
    assert hint.startswith("delete pods")
    assert "no spec.podCIDRs" in (shortage(NodeConfig("n1", (), {}, 1500), ()) or ("",))[0]
    inside, stray = parse_address("10.0.0.2"), parse_address("10.0.1.2")
    assert outside(config, [inside, stray]) == [stray]


def test_the_configuration_is_one_that_old_and_new_runtimes_take(tmp_path: Path) -> None:
    fields = json.loads(conflist.conflist(Path("/run/kubypass")))
    assert fields["cniVersion"] == "1.0.0"
    assert fields["cniVersions"][-1] == "1.1.0"
    assert fields["plugins"] == [{"type": "kubypass-cni", "socket": "/run/kubypass/cni.sock"}]
    assert conflist.install_conflist(Path("/run/kubypass"), tmp_path)
    assert not conflist.install_conflist(Path("/run/kubypass"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["05-kubypass.conflist"]


def test_others_are_set_aside_and_put_back(tmp_path: Path) -> None:
    for name in (
        "87-b.conflist",
        "00-a.conf",
        "c.json",
        ".hidden.conf",
        "readme.txt",
        conflist.CONFLIST,
    ):
        (tmp_path / name).write_text(name)
    assert conflist.others(tmp_path) == ["00-a.conf", "87-b.conflist", "c.json"]
    assert conflist.set_aside(tmp_path) == ["00-a.conf", "87-b.conflist", "c.json"]
    assert conflist.others(tmp_path) == []
    assert conflist.put_back(tmp_path) == ["00-a.conf", "87-b.conflist", "c.json"]
    assert (tmp_path / "00-a.conf").read_text() == "00-a.conf"
    assert conflist.put_back(tmp_path / "nowhere") == conflist.others(tmp_path / "nowhere") == []


def test_the_program_is_installed_once(tmp_path: Path) -> None:
    program = tmp_path / "made"
    program.write_bytes(b"program")
    assert conflist.install_program(program, tmp_path / "bin")
    assert not conflist.install_program(program, tmp_path / "bin")
    assert (tmp_path / "bin" / conflist.PLUGIN).stat().st_mode & 0o777 == 0o755
    assert conflist.remove([tmp_path / "bin" / conflist.PLUGIN, tmp_path / "nothing"])
    assert list((tmp_path / "bin").iterdir()) == []
