# SPDX-License-Identifier: Apache-2.0
"""A node with a second network device that nothing names: neither the default route nor its Node object."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from kubypass_lab.box.paths import FABRIC
from kubypass_lab.box.patience import DEADLINE_S
from kubypass_lab.box.process import wait_until
from kubypass_lab.box.wiring import ip_batch
from tests.box.conftest import GUIDE, HERE, Cluster, own_box

pytestmark = pytest.mark.xdist_group("second-nic")
ADDRESSES = {4: "10.20.0.11", 6: "[2001:db8:20::11]"}


@pytest.fixture(scope="module")
def plugged() -> Iterator[Cluster]:
    with own_box("nic", GUIDE / "cilium-config.yaml", HERE / "cluster.yaml") as box:
        fabric, node = box.paths.namespace(FABRIC), box.paths.namespace(box.nodes[0].name)
        ip_batch(
            fabric,
            [
                f"link add nic2 type veth peer name nic.2 netns {node}",
                "addr add 10.20.0.1/24 dev nic2",
                "addr add 2001:db8:20::1/64 dev nic2 nodad",
                "link set nic2 up",
            ],
        )
        lines = ["addr add 10.20.0.11/24 dev nic.2", "addr add 2001:db8:20::11/64 dev nic.2 nodad"]
        ip_batch(node, [*lines, "link set nic.2 up"])
        yield Cluster(box)


def answers(cluster: Cluster, version: int) -> set[str]:
    """HTTP codes that a host on the second network gets from a NodePort."""
    namespace = cluster.box.paths.namespace(FABRIC)
    url = f"http://{ADDRESSES[version]}:{cluster.node_port('echo')}/"
    words = ["curl", "-sg", "-m", "2", "-o", "/dev/null", "-w", "%{http_code}", url]
    command = ["ip", "netns", "exec", namespace, *words]
    return {
        subprocess.run(command, check=False, capture_output=True, text=True).stdout
        for _ in range(8)
    }


def becomes_served(cluster: Cluster, version: int) -> None:
    assert wait_until(lambda: answers(cluster, version) == {"200"}, DEADLINE_S)


@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
def test_node_ports_answer_by_it(plugged: Cluster, version: int) -> None:
    becomes_served(plugged, version)


@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
def test_clients_elsewhere_are_answered_by_two_default_routes(
    plugged: Cluster, version: int
) -> None:
    """The client is behind the fabric, which both devices lead to."""
    box = plugged.box
    ours, second = {4: ("192.168.1.1", "10.20.0.1"), 6: (None, "2001:db8:20::1")}[version]
    node = box.paths.namespace(box.nodes[0].name)
    gateway = ours or str(next(g.ip for g in box.topology.gateways if g.version == 6))
    target = "default" if version == 4 else "::/0"
    hops = f"nexthop via {gateway} dev eth0 nexthop via {second} dev nic.2"
    ip_batch(node, [f"route replace {target} {hops}"])
    for _ in range(8):
        plugged.ask("client", "TCP", ADDRESSES[version], plugged.node_port("echo"))


def test_the_status_tells_of_it(plugged: Cluster) -> None:
    rows = plugged.status("node1")["kube_proxy_replacement"]["devices"]
    assert any(row.startswith("nic.2 10.20.0.11") for row in rows), rows
