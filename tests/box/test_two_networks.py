# SPDX-License-Identifier: Apache-2.0
"""Nodes with a second network between them, that the default route knows nothing of and their Node objects name."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from kubypass_lab.box import agents
from kubypass_lab.box.box import Box, node_manifest
from kubypass_lab.box.files import read_json, write_json
from kubypass_lab.box.patience import ANSWER_S
from kubypass_lab.box.process import wait_until
from kubypass_lab.box.wiring import ip_batch
from tests.box.conftest import GUIDE, HERE, Cluster, own_box

pytestmark = pytest.mark.xdist_group("two-networks")
FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
SECOND = {4: ("172.31.0.1", "172.31.0.2"), 6: ("fd31::1", "fd31::2")}
BITS = {4: 24, 6: 64}


def join(box: Box) -> None:
    """A cable between the nodes; packets to the other's pods go by it."""
    namespaces = [box.paths.namespace(node.name) for node in box.nodes]
    ip_batch(namespaces[0], [f"link add eth1 type veth peer name eth1 netns {namespaces[1]}"])
    for at, node in enumerate(box.nodes):
        other = box.nodes[1 - at]
        lines = [f"addr add {SECOND[v][at]}/{BITS[v]} dev eth1" for v in (4, 6)] + [
            "link set eth1 up"
        ]
        lines += [f"route add {c} via {SECOND[c.version][1 - at]}" for c in other.pod_cidrs]
        ip_batch(namespaces[at], lines)
        path = node_manifest(box.paths, node)
        manifest = read_json(path)
        assert manifest
        status = manifest["status"]
        assert isinstance(status, dict)
        status["addresses"] += [{"type": "InternalIP", "address": SECOND[v][at]} for v in (4, 6)]
        write_json(path, manifest)


@pytest.fixture(scope="module")
def homes() -> Iterator[Cluster]:
    settings = GUIDE / "cilium-config.yaml"
    with own_box("two", settings, HERE / "cluster.yaml") as box:
        join(box)
        cluster = Cluster(box)

        def followed() -> bool:
            found = [agents.ask(box.paths, node.name, "/status") for node in box.nodes]
            return all("eth1 " in json.dumps(each) for each in found)

        assert wait_until(followed), "the second device is no uplink"
        yield cluster


@FAMILIES
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_a_client_gets_the_address_of_the_route_to_its_backend(
    homes: Cluster, protocol: str, version: int
) -> None:
    """The reply comes back by the second network, and is given its service's address there."""
    far = homes.box.nodes[1].name
    answers = [
        homes.ask(
            "client", protocol, homes.host(version, "node1"), homes.node_port("echo", protocol)
        )
        for _ in range(12)
    ]
    seen = {
        answer["client"].rpartition(":")[0].strip("[]")
        for answer in answers
        if answer["node"] == far
    }
    assert seen == {SECOND[version][0]}


@FAMILIES
def test_node_ports_answer_on_the_second_network(homes: Cluster, version: int) -> None:
    address = SECOND[version][0] if version == 4 else f"[{SECOND[version][0]}]"
    pods = {homes.ask("node2", "TCP", address, homes.node_port("echo"))["pod"] for _ in range(12)}
    assert len(pods) == 2


@FAMILIES
def test_pods_reach_each_other_by_the_second_network(homes: Cluster, version: int) -> None:
    homes.ask("pod1", "TCP", homes.host(version, "echo"), 80)
    homes.run(
        "pod1", "curl", "-sSg", "-m", f"{ANSWER_S:.0f}", f"http://{homes.host(version, 'nginx2')}/"
    )
