# SPDX-License-Identifier: Apache-2.0
"""Which devices take part, and what is said of the others."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from kubypass.errors import ConfigError
from kubypass.kernel.netlink import FrameHeader, Link, LinkAddress
from kubypass.model.address import parse_address
from kubypass.node.uplinks import Uplinks, choose_uplinks


@dataclass(frozen=True)
class Routes:
    """Names of the devices by which a default route leads, and of those with another route."""

    default: Sequence[str] = ()
    beyond: Sequence[str] = ()

    def has_default_route(self, link: Link) -> bool:
        return link.name in self.default

    def has_global_route(self, link: Link) -> bool:
        return link.name in (*self.default, *self.beyond)


LINKS = {
    "lo": "",
    "lxc0123": "veth",
    "eth0": "",
    "eth1": "",
    "port": "",
    "br0": "bridge",
    "docker0": "bridge",
    "calico9": "veth",
    "odd0": "veth",
    "veth1": "veth",
    "dummy0": "dummy",
    "red": "vrf",
    "inred": "",
    "bare": "",
}
MASTERS = {"port": "br0", "inred": "red"}
INDEXES = {name: at for at, name in enumerate(LINKS, 1)}
ADDRESSES = {
    "lo": "127.0.0.1/8",
    "lxc0123": "10.0.0.9/32",
    "eth0": "192.0.2.1/24",
    "eth1": "fe80::1/64",
    "port": "192.0.2.5/24",
    "br0": "2001:db8:1::1/64",
    "docker0": "172.17.0.1/16",
    "calico9": "fe80::9/64",
    "odd0": "192.0.2.77/32",
    "veth1": "10.20.0.11/24",
    "dummy0": "198.51.100.1/32",
    "red": "192.0.2.200/32",
    "inred": "192.0.2.201/24",
}


def links(names: Mapping[str, str]) -> dict[str, Link]:
    return {
        name: Link(
            INDEXES[name], name, b"", 1500, up=True, kind=kind,
            master=INDEXES.get(MASTERS.get(name, ""), 0),
        )
        for name, kind in names.items()
    }  # fmt: skip


def addresses() -> dict[int, list[LinkAddress]]:
    found = {}
    for name, text in ADDRESSES.items():
        address, _, prefix = text.partition("/")
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        entry = LinkAddress(INDEXES[name], socket.inet_pton(kind, address), int(prefix))
        found[entry.ifindex] = [entry]
    return found


def choose(
    names: Sequence[str],
    routes: Routes = Routes(),
    devices: Sequence[str] = (),
    internal: Sequence[str] = (),
) -> Uplinks:
    some = links({name: LINKS[name] for name in ("lo", "lxc0123", *names)})
    internal_ones = [parse_address(text) for text in internal]
    return choose_uplinks(some, addresses(), routes, devices, internal_ones)


ALL = tuple(name for name in LINKS if name not in ("lo", "lxc0123"))
BY_THEMSELVES = ["eth0", "br0", "veth1", "inred"]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, BY_THEMSELVES),
        ({"routes": Routes(["veth1"])}, ["veth1", "eth0", "br0", "inred"]),
        ({"routes": Routes(["calico9", "eth1"])}, ["eth1", "calico9", *BY_THEMSELVES]),
        ({"routes": Routes(beyond=["eth1", "bare", "calico9"])},
         ["eth0", "eth1", "br0", "veth1", "inred", "bare"]),
        ({"routes": Routes(["lxc0123", "port", "red", "dummy0"])}, BY_THEMSELVES),
        ({"internal": ["172.17.0.1", "198.51.100.1"]},
         ["eth0", "br0", "docker0", "veth1", "dummy0", "inred"]),
        ({"devices": ["eth+"]}, ["eth0", "eth1"]),
        ({"devices": ["docker0", "eth?"]}, ["eth0", "eth1", "docker0"]),
        ({"devices": ["!br0", "!inr+"]}, ["eth0", "veth1"]),
        ({"devices": ["!eth1", "e*"]}, ["eth0"]),
        ({"devices": ["!eth0"], "internal": ["192.0.2.1"]}, ["br0", "veth1", "inred"]),
    ],
    ids=[
        "addresses in networks",
        "default routes come first",
        "default routes without an address",
        "other routes",
        "never pods, ports, VRFs or dummies",
        "internal addresses",
        "pattern",
        "names",
        "left out",
        "left out of a pattern",
        "left out though internal",
    ],
)  # fmt: skip
def test_uplinks(given: dict[str, Any], names: list[str]) -> None:
    assert [link.name for link in choose(ALL, **given).chosen] == names


def test_what_takes_no_part_is_told_with_the_reason() -> None:
    reasons = {one.name: one.reason for one in choose(ALL).left_out}
    assert sorted(reasons) == ["docker0", "dummy0", "odd0", "port", "red"]
    assert "container runtime" in reasons["docker0"]
    assert "bridge" in reasons["port"]
    left_out = choose(ALL, devices=["eth0"]).left_out
    assert {one.reason for one in left_out} == {"the setting `devices` does not name it"}


def test_a_device_whose_packets_cannot_be_read_is_left_alone() -> None:
    some = links({"eth0": "", "bare": ""})
    some["bare"] = replace(some["bare"], header=FrameHeader.OTHER)
    found = choose_uplinks(some, addresses(), Routes(["bare"]), (), ())
    assert [link.name for link in found.chosen] == ["eth0"]
    assert [(one.name, one.served) for one in found.left_out] == [("bare", False)]


def test_a_device_without_header_takes_part() -> None:
    some = links({"eth0": "", "bare": "tun"})
    some["bare"] = replace(some["bare"], header=FrameHeader.NONE)
    found = choose_uplinks(some, addresses(), Routes(["bare"]), (), ())
    assert [link.name for link in found.chosen] == ["bare", "eth0"]
    assert not found.left_out


def test_a_device_that_is_not_there_is_an_error() -> None:
    with pytest.raises(
        ConfigError, match=r"devices=bond\+: no such device; devices here are eth0 lo"
    ):
        choose(["eth0"], devices=["bond+"])


def test_a_node_without_an_uplink_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"no device leads out of this node.*docker0: its name"):
        choose(["docker0"])


@pytest.mark.parametrize("name", ["eth[0]", "e.h0", "bond0.100", "größe", "a\nb"])
def test_what_a_name_holds_is_no_expression(name: str) -> None:
    some = {each: Link(at, each, b"", 1500, up=True) for at, each in enumerate(("eth0", name))}
    found = choose_uplinks(some, {}, Routes(), [name], ())
    assert [one.name for one in found.chosen] == [name]
