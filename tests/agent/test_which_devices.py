# SPDX-License-Identifier: Apache-2.0
"""Which devices of a real node take part, as its routes, rules and addresses change: each change is an event."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from kubypass_lab.bench.node import BareNode, agent, bare_node
from kubypass_lab.box.patience import DEADLINE_S

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")


@pytest.fixture(scope="module")
def node() -> Iterator[BareNode]:
    """A node whose agent looks at everything so rarely that only events can tell it of a change."""
    with bare_node() as made:
        ip(made, "addr add 2001:db8:31::31/64 dev eth0 nodad")
        with agent(made, "--check-every", "3600"):
            yield made


def ip(node: BareNode, *lines: str) -> None:
    command = ["ip", "-n", node.namespace, "-batch", "-"]
    done = subprocess.run(
        command, check=False, input="\n".join(lines), text=True, capture_output=True
    )
    if "Unknown device type" in done.stderr:
        pytest.skip(f"this kernel has no such device: {lines[0]}")
    assert done.returncode == 0, done.stderr


def uplinks(node: BareNode) -> set[str]:
    rows = node.status()["kube_proxy_replacement"]["devices"]
    return {row.split(" ")[0] for row in rows}


def told(node: BareNode) -> str:
    """What the status says of devices that take no part."""
    status = node.status()
    problems = [f"{p['subject']}: {p['message']}" for p in status["problems"]]
    return "\n".join([*status["notes"], *problems])


def wait(node: BareNode, condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        log = (node.root / "agent.log").read_text().splitlines()[-3:]
        seen = f"{uplinks(node)}; {told(node)}; {log}"
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}; {seen}"
        time.sleep(0.05)


def becomes(node: BareNode, *names: str) -> None:
    wait(node, lambda: uplinks(node) == {"eth0", *names}, f"eth0 and {names} take part")


def veth(name: str) -> list[str]:
    return [f"link add {name} type veth peer name {name}.far", f"link set {name} up"]


def test_a_second_network_without_a_default_route(node: BareNode) -> None:
    ip(node, *veth("eth1"), "addr add 10.20.0.11/24 dev eth1")
    becomes(node, "eth1")
    ip(node, "addr del 10.20.0.11/24 dev eth1", "addr add 2001:db8:20::11/64 dev eth1 nodad")
    wait(node, lambda: "10.20.0.11" not in str(node.status()["options"]), "the address is gone")
    becomes(node, "eth1")
    ip(node, "link del eth1")
    becomes(node)


@pytest.mark.parametrize(
    "routes",
    [
        ["route add default nexthop dev eth3 nexthop dev eth4"],
        ["route add ::/0 nexthop via fe80::1 dev eth3 nexthop via fe80::2 dev eth4"],
        ["nexthop add id 1 dev eth3", "nexthop add id 2 dev eth4", "nexthop add id 9 group 1/2",
         "route add default nhid 9"],
        ["route add default dev eth3 metric 7", "route add ::/0 dev eth4 metric 4000"],
        ["route add default dev eth3 metric 9", "route add default dev eth4 metric 8"],
    ],
    ids=["ECMP", "IPv6 ECMP", "nexthop objects", "a family each", "metrics"],
)  # fmt: skip
def test_default_routes_by_devices_without_addresses(node: BareNode, routes: list[str]) -> None:
    ip(node, *veth("eth3"), *veth("eth4"), "link set eth3.far up", "link set eth4.far up")
    ip(node, *routes)
    becomes(node, "eth3", "eth4")
    ip(node, "link del eth3", "link del eth4")
    becomes(node)


def test_routes_of_another_table_by_a_device_without_an_address(node: BareNode) -> None:
    ip(node, *veth("low"), "link set low.far up", "link add low.5 link low type vlan id 5")
    ip(node, "link set low.5 up", "rule add from 192.168.1.31 lookup 100")
    ip(node, "route add 203.0.113.0/24 dev low.5 table 100 proto static")
    becomes(node, "low.5")
    ip(node, "route del 203.0.113.0/24 dev low.5 table 100", "rule del lookup 100")
    ip(node, "route add 203.0.113.0/24 dev low.5 table 100 proto bird")
    ip(node, "link del low")
    becomes(node)


def test_a_bridge_takes_part_and_its_ports_do_not(node: BareNode) -> None:
    ip(node, "link add br0 type bridge", *veth("p1"), "link set p1 master br0", "link set br0 up")
    ip(node, "addr add 10.30.0.1/24 dev br0", "addr add 10.31.0.1/24 dev p1")
    becomes(node, "br0")
    wait(node, lambda: "no NodePorts by p1: packets belong to the bridge" in told(node), "p1")
    ip(node, "link del br0", "link del p1")
    becomes(node)


def test_devices_of_others_take_no_part_and_are_told(node: BareNode) -> None:
    ip(node, "link add docker0 type bridge", "addr add 172.17.0.1/16 dev docker0", *veth("veth9"))
    ip(node, "addr add 10.40.0.1/32 dev veth9", *veth("cali5"), "route add 10.41.0.5 dev cali5")
    wait(node, lambda: "docker0: its name says" in told(node), "docker0 is told")
    wait(node, lambda: "veth9: a veth without a network" in told(node), "veth9 is told")
    assert uplinks(node) == {"eth0"}
    ip(node, "link del docker0", "link del veth9", "link del cali5")
    wait(node, lambda: "docker0" not in told(node), "docker0 is forgotten")


def test_the_devices_of_a_vrf_take_part(node: BareNode) -> None:
    ip(node, "link add red type vrf table 77", *veth("v1"), "link set v1 master red")
    ip(node, "link set red up", "addr add 10.50.0.1/24 dev v1", "addr add 10.51.0.1/32 dev red")
    becomes(node, "v1")
    wait(node, lambda: "red: packets arrive by the devices of this VRF" in told(node), "red")
    ip(node, "link del red", "link del v1")
    becomes(node)


def test_a_bond_takes_part_and_its_devices_do_not(node: BareNode) -> None:
    ip(
        node,
        "link add bond7 type bond",
        *veth("s1"),
        "link set s1 down",
        "link set s1 master bond7",
    )
    ip(node, "addr add 10.60.0.1/24 dev bond7", "link set bond7 up")
    becomes(node, "bond7")
    ip(node, "link del bond7", "link del s1")
    becomes(node)


def test_what_the_network_service_takes_away_comes_back(node: BareNode) -> None:
    """First the link, then the address, and at last the route."""
    ip(node, *veth("eth2"), "link set eth2.far up", "route add default dev eth2 metric 200")
    becomes(node, "eth2")
    ip(node, "link set eth2 down")
    becomes(node)
    ip(node, "link set eth2 up")
    ip(node, "route add default dev eth2 metric 200")
    becomes(node, "eth2")
    ip(node, "link del eth2")
    becomes(node)
