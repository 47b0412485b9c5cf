# SPDX-License-Identifier: Apache-2.0
"""Which devices lead out of a node."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import pytest

from kubypass.errors import ConfigError
from kubypass.kernel.netlink import Link, Route
from kubypass.model.address import parse_address
from kubypass.node.uplinks import choose_uplinks

NAMES = ("lo", "lxc0123", "down0", "eth0", "eth1", "wlan0")
LINKS = {
    name: Link(index, name, b"", 1500, up=name != "down0") for index, name in enumerate(NAMES, 1)
}
TEXTS = {
    "lo": ("127.0.0.1",),
    "lxc0123": ("10.0.0.9",),
    "down0": ("10.0.0.8",),
    "eth0": ("fe80::1",),
    "eth1": ("fe80::2", "192.0.2.1"),
    "wlan0": ("198.51.100.1",),
}
ADDRESSES = {LINKS[name].index: [*map(parse_address, some)] for name, some in TEXTS.items()}


def default_route(name: str) -> Route:
    return Route(b"", 0, b"\1\1\1\1", LINKS[name].index, socket.AF_INET)


def chosen(
    routes: Sequence[Route] = (), devices: Sequence[str] = (), internal: Sequence[str] = ()
) -> list[str]:
    addresses = [parse_address(text) for text in internal]
    found = choose_uplinks(LINKS, routes, ADDRESSES, devices, addresses)
    return [link.name for link in found]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"devices": ["eth+"]}, ["eth0", "eth1"]),
        ({"devices": ["wlan0", "eth0"]}, ["eth0", "wlan0"]),
        ({"devices": ["eth?", "wl*"]}, ["eth0", "eth1", "wlan0"]),
        ({"routes": [default_route("eth0")]}, ["eth0"]),
        ({"internal": ["198.51.100.1"]}, ["wlan0"]),
        ({"routes": [default_route("eth0")], "internal": ["192.0.2.1"]}, ["eth0", "eth1"]),
        ({"routes": [default_route("lxc0123")], "internal": ["127.0.0.1"]}, ["eth1"]),
        ({}, ["eth1"]),
    ],
    ids=[
        "pattern",
        "names",
        "stars and question marks",
        "default route",
        "internal address",
        "both",
        "never pods or lo",
        "first",
    ],
)
def test_uplinks(given: dict[str, Any], names: list[str]) -> None:
    assert chosen(**given) == names


def test_a_device_that_is_not_there_is_an_error() -> None:
    with pytest.raises(
        ConfigError, match=r"devices=bond\+: no such device; devices here are down0 eth0"
    ):
        chosen(devices=["bond+"])


def test_a_node_without_an_uplink_is_an_error() -> None:
    only = {"lo": LINKS["lo"]}
    with pytest.raises(ConfigError, match="no device leads out of this node"):
        choose_uplinks(only, (), ADDRESSES, (), ())


@pytest.mark.parametrize("name", ["eth[0]", "e.h0", "bond0.100", "größe", "a\nb"])
def test_what_a_name_holds_is_no_expression(name: str) -> None:
    links = {each: Link(at, each, b"", 1500, up=True) for at, each in enumerate(("eth0", name))}
    assert [one.name for one in choose_uplinks(links, (), {}, [name], ())] == [name]
