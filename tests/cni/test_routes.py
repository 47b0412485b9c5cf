# SPDX-License-Identifier: Apache-2.0
"""Routes to other nodes' pods, by the device that leads to each node; nodes come, go and move."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.cni.runtime import Runtime, inside, problems, running, write_node
from tests.waiting import wait

_LINKS = """link add eth1 type veth peer name far1
link set eth1 up
link set far1 up
addr add 192.168.2.31/24 dev eth1
addr add fd02::31/64 dev eth1 nodad
route add 10.77.0.0/16 via 192.168.1.1 dev eth0
"""
HINT = 'set direct-routing-skip-unreachable: "true"'


@pytest.fixture
def two_links(pods: Runtime) -> Runtime:
    """eth0 as every node has it, eth1 with another segment, and a gateway for a third."""
    command = ["ip", "-n", pods.node.namespace, "-batch", "-"]
    subprocess.run(command, input=_LINKS, text=True, check=True)
    write_node(pods.node, ("10.1.4.0/24",), "near", ("192.168.1.40",))
    write_node(pods.node, ("10.1.5.0/24", "fd01:5::/112"), "other", ("192.168.2.40", "fd02::40"))
    write_node(pods.node, ("10.1.6.0/24",), "behind", ("10.77.0.5",))
    write_node(pods.node, ("10.1.7.0/24",), "nowhere", ("172.30.9.9",))
    return pods


def routes(pods: Runtime) -> dict[str, tuple[str, str]]:
    """Ours: destination to gateway and device."""
    found = {}
    for version in ("-4", "-6"):
        place = f"/run/netns/{pods.node.namespace}"
        text = inside(place, "ip", "-j", version, "route", "show", "proto", "75")
        found.update({route["dst"]: (route["gateway"], route["dev"]) for route in json.loads(text)})
    return found


REACHED = {
    "10.1.4.0/24": ("192.168.1.40", "eth0"),
    "10.1.5.0/24": ("192.168.2.40", "eth1"),
    "fd01:5::/112": ("fd02::40", "eth1"),
}


def test_each_route_has_the_device_that_leads_to_its_node(two_links: Runtime) -> None:
    pods = two_links
    with running(pods, "--auto-direct-node-routes=true"):
        assert routes(pods) == REACHED
        behind, nowhere = problems(pods.node)
        assert behind.startswith("Node behind: no route to its pods in 10.1.6.0/24 via 10.77.0.5: ")
        assert "it is behind the gateway 192.168.1.1" in behind
        assert nowhere.startswith("Node nowhere: ")
        assert all(line.endswith(HINT) for line in (behind, nowhere))


def test_nodes_behind_a_gateway_can_be_left_to_the_network(two_links: Runtime) -> None:
    options = ("--auto-direct-node-routes=true", "--direct-routing-skip-unreachable=true")
    with running(two_links, *options):
        assert routes(two_links) == REACHED
        assert not problems(two_links.node)


def test_routes_follow_nodes(two_links: Runtime) -> None:
    pods = two_links
    with running(pods, "--auto-direct-node-routes=true"):
        write_node(pods.node, ("10.1.4.0/24",), "near", ("192.168.2.44",))
        moved = {**REACHED, "10.1.4.0/24": ("192.168.2.44", "eth1")}
        wait(lambda: routes(pods) == moved, "the route follows the node's address")
        write_node(pods.node, ("10.1.8.0/24",), "new", ("192.168.1.48",))
        new = {**moved, "10.1.8.0/24": ("192.168.1.48", "eth0")}
        wait(lambda: routes(pods) == new, "a route to the new node's pods")
        (pods.node.manifests / "node-other.json").unlink()
        del new["10.1.5.0/24"], new["fd01:5::/112"]
        wait(lambda: routes(pods) == new, "no route to the node that went")
        write_node(pods.node, ("10.1.9.0/24",), "new", ("192.168.1.48",))
        new["10.1.9.0/24"] = new.pop("10.1.8.0/24")
        wait(lambda: routes(pods) == new, "the new network")
    with running(pods, "--auto-direct-node-routes=true"):
        assert routes(pods) == new
        assert pods.node.status()["writes"]["routes"] == 0


def test_routes_follow_the_node_s_own_links(two_links: Runtime) -> None:
    pods, place = two_links, f"/run/netns/{two_links.node.namespace}"
    with running(pods, "--auto-direct-node-routes=true", "--devices=eth+"):
        inside(place, "ip", "link", "set", "eth1", "down")
        wait(lambda: sorted(routes(pods)) == ["10.1.4.0/24"], "the link's routes are gone")
        wait(lambda: any("Node other" in line for line in problems(pods.node)), "a problem")
        inside(place, "ip", "link", "set", "eth1", "up")
        inside(place, "ip", "addr", "replace", "fd02::31/64", "dev", "eth1", "nodad")
        wait(lambda: routes(pods) == REACHED, "they are back")
        wait(lambda: not any("Node other" in p for p in problems(pods.node)), "no problem")


def test_a_new_address_of_the_node_keeps_its_pods_reachable(pods: Runtime) -> None:
    """With an address the kernel removes the routes that send from it."""
    place = f"/run/netns/{pods.node.namespace}"
    with running(pods):
        pods.add("pod")
        inside(place, "ip", "addr", "add", "192.168.1.77/24", "dev", "eth0")
        write_node(pods.node, addresses=("192.168.1.77", "fd00::31"))
        inside(place, "ip", "addr", "del", "192.168.1.31/24", "dev", "eth0")

        def sources() -> list[str]:
            found = json.loads(inside(place, "ip", "-j", "route", "show", "10.1.2.2"))
            return [f"{route['dev'][:3]} {route.get('prefsrc')}" for route in found]

        inside(place, "ip", "addr", "replace", "192.168.1.77/24", "dev", "eth0")
        wait(lambda: sources() == ["lxc 192.168.1.77"], "the host route is back")
