# SPDX-License-Identifier: Apache-2.0
"""A real agent's map of what pods reach with their own addresses follows nodes and ip-masq-agent's configuration."""

from __future__ import annotations

import pytest

from kubypass.datapath import layout
from kubypass.datapath.pins import Pins
from kubypass.model.address import Address, format_address
from kubypass_lab.bench.cluster import write_file
from kubypass_lab.bench.node import BareNode
from tests.agent.undo import problems, root, started, wait, write_pod

pytestmark = pytest.mark.skipif(not root(), reason="needs root: loads BPF programs")


def inside(node: BareNode) -> set[str]:
    """The networks in the map."""
    keys = (
        layout.Prefix.unpack(key) for key, _ in Pins(node.root / "bpf").open_map("inside").items()
    )
    return {f"{format_address(Address(key.address))}/{key.bits}" for key in keys}


def write_node(node: BareNode, pods: str) -> None:
    """Another node of the cluster, whose pods have these addresses."""
    other = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "other"},
        "spec": {"podCIDRs": [pods]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.168.1.32"}]},
    }
    write_file(node.manifests / "node.json", other)


def test_it_follows_nodes_and_the_configuration(node: BareNode) -> None:
    configured = node.root / "ip-masq-agent"
    configured.write_text("nonMasqueradeCIDRs: [198.51.100.0/24]")
    write_node(node, "10.1.2.0/24")
    options = ("--enable-ip-masq-agent=true", f"--ip-masq-agent-config-path={configured}")
    with started(node, *options):
        assert {"198.51.100.0/120", "10.1.2.0/120", "192.168.1.32/128"} <= inside(node)
        configured.write_text("nonMasqueradeCIDRs: [203.0.113.0/24]")
        wait(node, lambda: "203.0.113.0/120" in inside(node), "the other network")
        assert "198.51.100.0/120" not in inside(node)
        write_node(node, "10.1.3.0/24")
        wait(node, lambda: "10.1.3.0/120" in inside(node), "the node's other pods")
        assert "10.1.2.0/120" not in inside(node)
        configured.write_text("nonMasqueradeCIDRs: [203.0.113.0/24")
        wait(node, lambda: any("stays in use" in one for one in problems(node)), "a problem")
        assert "203.0.113.0/120" in inside(node)


def test_a_family_without_pods_is_inside_as_a_whole(node: BareNode) -> None:
    """No packet looks up a route to find out that it keeps its address."""
    with started(node):
        assert {"0.0.0.0/96", "2000::/3"} <= inside(node)
        write_node(node, "10.1.2.0/24")
        wait(node, lambda: "0.0.0.0/96" not in inside(node), "IPv4 to be masqueraded")
        assert {"10.1.2.0/120", "2000::/3"} <= inside(node)


def test_pods_that_other_nodes_take_for_outside(node: BareNode) -> None:
    """The networks of pods are known, and a pod is in none of them."""
    write_node(node, "10.1.2.0/24")
    write_pod(node, "one", "pod0", "10.1.2.1")
    with started(node):
        assert problems(node) == []
        write_pod(node, "two", "pod1", "10.9.0.1")
        (said,) = wait(node, lambda: problems(node), "a problem")
        assert said.startswith(
            "Masquerading: pods of this node are in no known network of pods: 10.9.0.1;"
        )
        write_node(node, "10.9.0.0/24")
        wait(node, lambda: any("pods: 10.1.2.1;" in one for one in problems(node)), "the other pod")
        write_node(node, "10.0.0.0/10")
        wait(node, lambda: not problems(node), "the problem to be gone")
        write_pod(node, "six", "pod2", "fd00:9::1")
        wait(node, lambda: node.status()["pods"] == 3, "the third pod")
        assert problems(node) == []
