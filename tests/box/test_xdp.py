# SPDX-License-Identifier: Apache-2.0
"""XDP on the uplinks of a box's nodes, with real sockets: switched on, to another mode and off while a client talks.

The uplinks are veths. What XDP sends natively arrives there only if their other ends have a program too, which the
network between the nodes gets here; and a checksum that a sender has left to its device is tc's business, so senders
compute theirs, as a network adapter would.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kubypass.datapath import layout
from kubypass.datapath.counters import read_counts
from kubypass.datapath.loader import XDP_OBJECT, XDP_PROGRAM, load_programs
from kubypass.kernel import netns
from kubypass.kernel.attach.link import Link
from kubypass.kernel.attach.xdp import XdpHook, XdpMode
from kubypass.kernel.bpf import Map
from kubypass.kernel.netlink import Netlink
from kubypass.model.verdict import Hook, Verdict
from kubypass_lab.box import agents
from kubypass_lab.box.paths import CLIENT, FABRIC
from kubypass_lab.box.process import run
from tests.box.clients import connected
from tests.box.conftest import HERE, Cluster, guide_settings, own_box
from tests.box.exchanges import exchange

pytestmark = pytest.mark.xdist_group("xdp")
FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
MODES = ("native", "generic")
SIZES = {
    "services": 64,
    "backends": 64,
    "slots": 64,
    "flows": 64,
    "transient_flows": 64,
    "fragments": 64,
}


def settings(directory: Path, mode: str) -> Path:
    return guide_settings(directory, f'bpf-lb-acceleration: "{mode}"')


def accelerate(cluster: Cluster, directory: Path, mode: str) -> None:
    """Other agents with this setting, over what those before have left."""
    agents.stop_agents(cluster.box.paths)
    agents.start_agents(cluster.box.paths, cluster.box.topology, settings(directory, mode))
    for node in cluster.box.nodes:
        row = cluster.status(node.name)["xdp_acceleration"]
        assert row["effective"] == mode.title(), row


def take_redirected(cluster: Cluster) -> list[Link]:
    """Programs at the other ends of the uplinks, which pass everything: their table of devices is empty."""
    passing = load_programs((XDP_OBJECT,), {}, SIZES, lambda _: None)[XDP_PROGRAM]
    with netns.inside(f"/run/netns/{cluster.box.paths.namespace(FABRIC)}"), Netlink() as netlink:
        names = {node.alias for node in cluster.box.nodes}
        ends = [link.index for link in netlink.links() if link.name in names]
        return [XdpHook(index, XdpMode.NATIVE).attach(passing) for index in ends]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("xdp")


@pytest.fixture(scope="module")
def accelerated(directory: Path) -> Iterator[Cluster]:
    with (
        own_box("xdp", settings(directory, "disabled"), HERE / "cluster.yaml") as box,
        ExitStack() as stack,
    ):
        cluster = Cluster(box)
        for link in take_redirected(cluster):
            stack.callback(link.close)
        for host in (CLIENT, *(f"pod/{pod.name}" for pod in cluster.pods("echo"))):
            cluster.run(host, "ethtool", "-K", "eth0", "tx", "off")
        yield cluster


def handled(cluster: Cluster, node: str = "node1") -> int:
    """Packets that XDP has sent to the network."""
    name = cluster.box.topology.node(node).name
    pins = cluster.box.paths.node_bpffs(name) / "kubypass" / layout.LAYOUT_HASH
    counts = read_counts(Map.open_pinned(str(pins / "metrics")), [Hook.XDP])
    return sum(one.packets for one in counts if one.verdict == Verdict.TO_NETWORK)


def echo_on(cluster: Cluster, node: str) -> str:
    name = cluster.box.topology.node(node).name
    return next(pod.name for pod in cluster.pods("echo") if pod.node == name)


def until_both_answer(cluster: Cluster, kind: str, to: tuple[str, int], size: int) -> None:
    wanted, seen = {pod.name for pod in cluster.pods("echo")}, set()
    for _ in range(60):
        seen.add(exchange(cluster, CLIENT, kind, to, size))
        if seen == wanted:
            return
    raise AssertionError(f"{seen} of {wanted} have answered")


@pytest.mark.parametrize("mode", MODES)
def test_a_client_is_answered_by_both_nodes(
    accelerated: Cluster, directory: Path, mode: str
) -> None:
    """TCP and UDP of both families, from one byte to many segments and fragments."""
    accelerate(accelerated, directory, mode)
    for version in (4, 6):
        for kind, protocol in (("SOCK_STREAM", "TCP"), ("SOCK_DGRAM", "UDP")):
            to = (accelerated.host(version, "node1"), accelerated.node_port("echo", protocol))
            for size in (1, 1000, 20000):
                before = handled(accelerated)
                until_both_answer(accelerated, kind, to, size)
                in_fragments = protocol == "UDP" and size > 1000
                assert in_fragments or handled(accelerated) >= before + 2


@pytest.mark.parametrize("mode", MODES)
def test_checksums_that_are_left_to_a_device(
    accelerated: Cluster, directory: Path, mode: str
) -> None:
    """A client that leaves them to its device is answered all the same: XDP passes its packets."""
    accelerate(accelerated, directory, mode)
    accelerated.run(CLIENT, "ethtool", "-K", "eth0", "tx", "on")
    try:
        for version in (4, 6):
            for kind, protocol in (("SOCK_STREAM", "TCP"), ("SOCK_DGRAM", "UDP")):
                to = (accelerated.host(version, "node1"), accelerated.node_port("echo", protocol))
                until_both_answer(accelerated, kind, to, 1300)
    finally:
        accelerated.run(CLIENT, "ethtool", "-K", "eth0", "tx", "off")


@FAMILIES
def test_it_is_switched_while_a_client_talks(
    accelerated: Cluster, directory: Path, version: int
) -> None:
    """Off, in both modes and off again: one connection goes on with its backend on the other node."""
    accelerate(accelerated, directory, "disabled")
    remote = echo_on(accelerated, "node2")
    to = (accelerated.host(version, "node1"), accelerated.node_port("echo"))
    with ExitStack() as stack:
        for _ in range(60):
            client = stack.enter_context(connected(accelerated, CLIENT, "TCP", *to))
            if client.hear() == remote:
                break
        for mode in ("native", "generic", "native", "disabled"):
            before = handled(accelerated)
            accelerate(accelerated, directory, mode)
            assert [client.ask("ask") for _ in range(3)] == [remote] * 3
            assert (handled(accelerated) - before >= 6) == (mode != "disabled"), mode


@FAMILIES
def test_the_trace_tells_of_it(accelerated: Cluster, directory: Path, version: int) -> None:
    """It says so of the packet and of the answer to a backend on the other node, and of neither to one on this node."""
    accelerate(accelerated, directory, "native")
    to = f"{accelerated.host(version, 'node1')}:{accelerated.node_port('echo')}/tcp"
    said: dict[int, str] = {}
    for number in range(1, 60):
        source = f"203.0.113.{number}" if version == 4 else f"2001:db8:cafe::{number:x}"
        shown = accelerated.run("node1", "kubypass", "trace", "--from", source, "--to", to)
        said[shown.count("driver has XDP")] = shown
        if {0, 2} <= said.keys():
            break
    assert {0, 2} == said.keys(), said
    assert "back: from_uplink" in said[2]
    assert "into the pod" in said[0]


def test_nothing_is_left_of_it(accelerated: Cluster, directory: Path) -> None:
    accelerate(accelerated, directory, "native")
    accelerate(accelerated, directory, "disabled")
    for node in accelerated.box.nodes:
        shown = json.loads(
            run(["ip", "-n", accelerated.box.paths.namespace(node.name), "-j", "link"])
        )
        assert not [each["ifname"] for each in shown if each.get("xdp", {}).get("attached")]
        root = accelerated.box.paths.node_bpffs(node.name) / "kubypass"
        assert not [
            *root.glob("links/*-native"),
            *root.glob("links/*-generic"),
            *root.glob("programs/xdp*"),
        ]
