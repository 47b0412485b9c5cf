# SPDX-License-Identifier: Apache-2.0
"""A hostile pod, with raw sockets, on a live node: what does not carry its own address arrives nowhere."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Packet, Raw

from kubypass_lab.box import agents
from kubypass_lab.box.enter import find_target, run_in
from kubypass_lab.box.process import wait_until
from tests.agent.undo import WITHOUT_TCX
from tests.box.conftest import GUIDE, HERE, Cluster, own_box
from tests.box.forging import MARK_BYTES, Forger, ip, packets, router

pytestmark = pytest.mark.xdist_group("senders")
VERSIONS = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
INIT = SCTPChunkInit(len=20 + MARK_BYTES)
"""The mark is a parameter of the chunk: an INIT with another chunk behind it is invalid to a stateful firewall."""
BALANCED = {4: "198.51.100.81", 6: "2001:db8:51::81"}
RANGED = """
    apiVersion: v1
    kind: Service
    metadata: {name: ranged}
    spec:
      type: LoadBalancer
      ipFamilyPolicy: RequireDualStack
      selector: {app: echo}
      loadBalancerSourceRanges: [203.0.113.0/24, "2001:db8:cafe::/64"]
      ports:
      - {name: web, port: 81, targetPort: 8080}
      - {name: dns, port: 81, targetPort: 5353, protocol: UDP}
    status: {loadBalancer: {ingress: [{ip: 198.51.100.81}, {ip: "2001:db8:51::81"}]}}
"""


@pytest.fixture(scope="module", params=["tcx", "clsact"])
def hostile(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    with (
        attached_by(request.param, tmp_path_factory.mktemp("site")),
        own_box("snd", GUIDE / "cilium-config.yaml", HERE / "cluster.yaml") as box,
    ):
        cluster = Cluster(box)
        cluster.apply(RANGED)
        mode = {"tcx": "TCX", "clsact": "Legacy TC"}[request.param]
        assert cluster.status("node1")["attach_mode"] == mode
        yield cluster


@contextmanager
def attached_by(mode: str, site: Path) -> Iterator[None]:
    """Has the agents of a box attach their programs so."""
    if mode == "tcx":
        yield
        return
    (site / "sitecustomize.py").write_text(WITHOUT_TCX)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(site)
    try:
        yield
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


@pytest.fixture
def forger(hostile: Cluster) -> Iterator[Forger]:
    node = hostile.box.topology.node("node1").name
    pod = next(pod for pod in hostile.pods("visitor") if pod.node == node)
    with Forger(hostile.box, pod) as forger:
        yield forger


def others(cluster: Cluster, version: int) -> list[str]:
    """Addresses of others: pods here and there, nodes, a Service, clients outside, and those that nobody may have."""
    names = ("nginx1", "nginx2", "node1", "node2", "my-nginx")
    known = [cluster.host(version, name).strip("[]") for name in names]
    if version == 4:
        special = ["127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1"]  # noqa: S104
        return [*known, *special, "203.0.113.9", "8.8.8.8", "169.254.1.1"]
    return [
        *known,
        "::1",
        "::",
        "ff02::1",
        "fe80::1",
        "fe80::99",
        "2001:db8:cafe::9",
        "2001:4860::8",
    ]


def targets(cluster: Cluster, version: int) -> list[tuple[str, int]]:
    """Where they are sent: pods, NodePorts, a ClusterIP, an address with source ranges, and out."""
    hosts = [cluster.host(version, name).strip("[]") for name in ("nginx1", "nginx2", "my-nginx")]
    nodes = [cluster.host(version, name).strip("[]") for name in ("node1", "node2")]
    outside = {4: "203.0.113.9", 6: "2001:db8:cafe::9"}[version]
    return [
        *((host, 80) for host in hosts),
        *((node, cluster.node_port("echo", name)) for node in nodes for name in ("TCP", "UDP")),
        *((BALANCED[version], port) for port in (80, 81)),
        (outside, 53),
        ({4: "224.0.0.1", 6: "ff02::1"}[version], 5353),
    ]


@VERSIONS
def test_nothing_arrives_in_anothers_name(hostile: Cluster, forger: Forger, version: int) -> None:
    pairs = itertools.product(others(hostile, version), targets(hostile, version))
    forged = [
        forger.frame(packet) for source, (to, port) in pairs for packet in packets(source, to, port)
    ]
    assert forger.dropped(forged) == ({"foreign_source": len(forged)}, {})


@VERSIONS
def test_its_own_name_arrives(hostile: Cluster, forger: Forger, version: int) -> None:
    to = hostile.host(version, "nginx2").strip("[]")
    head = ip(forger.address(version), to)
    number: dict[str, Any] = {"sport": 41000, "dport": 80}
    echo = ICMP() if version == 4 else ICMPv6EchoRequest()
    for said in (TCP(**number), UDP(**number), SCTP(**number) / INIT, echo):
        assert forger.passes(forger.frame(head / said)), said.summary()
    assert forger.passes(forger.frame(head / UDP(**number), src="02:00:00:00:00:99"))


def test_mapped_addresses_are_malformed(hostile: Cluster, forger: Forger) -> None:
    other = hostile.host(4, "nginx1")
    forged = [
        forger.frame(packet)
        for to, port in targets(hostile, 6)
        for packet in packets(f"::ffff:{other}", to, port)
    ]
    assert forger.dropped(forged) == ({"malformed": len(forged)}, {})


def test_no_frame_hides_a_packet(hostile: Cluster, forger: Forger) -> None:
    to = hostile.host(4, "nginx1")
    for source in (hostile.host(4, "nginx2"), hostile.host(4, "node1"), "203.0.113.9"):
        packet = IP(src=source, dst=to) / UDP(sport=41000, dport=80)
        hidden = [
            forger.frame(Dot1Q(vlan=0) / packet),
            forger.frame(Dot1Q(vlan=5) / packet),
            forger.frame(Dot1AD(vlan=5) / Dot1Q(vlan=6) / packet),
            forger.frame(Dot1Q(vlan=0) / Dot1Q(vlan=0) / packet),
            forger.frame(Raw(b"\0\x01\xf1\x40") / packet, type=0x8847),
            forger.frame(Raw(b"\x11\0\0\1\0\x40\0\x21") / packet, type=0x8864),
            forger.frame(packet, type=100),
            forger.frame(packet, src="02:00:00:00:00:99"),
            forger.frame(packet, dst="ff:ff:ff:ff:ff:ff"),
        ]
        assert forger.dropped(hidden) == ({"foreign_source": len(hidden)}, {})


def neighbours(forger: Forger) -> set[str]:
    """Whom the node knows behind the pod's device."""
    namespace = forger.box.paths.namespace(forger.pod.node)
    words = ["ip", "-n", namespace, "-j", "neigh", "show", "dev", forger.pod.interface]
    shown = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return {str(entry["dst"]) for entry in json.loads(shown)}


def claims(hostile: Cluster, forger: Forger) -> Iterable[Packet]:
    """Other pods', nodes' and invented addresses that are said to be the pod's, or that ask the node."""
    here = hostile.host(4, "node1")
    for claimed in (*others(hostile, 4), "10.9.0.1", "10.9.0.2"):
        if claimed != "0.0.0.0":  # noqa: S104 (it asks whether an address is free)
            for op in (1, 2):
                yield forger.frame(ARP(op=op, hwsrc=forger.mac, psrc=claimed, pdst=here))
                yield forger.frame(ARP(op=op, hwsrc=forger.mac, psrc=claimed, pdst=claimed))
    option, own = ICMPv6NDOptSrcLLAddr(lladdr=forger.mac), forger.link_local()
    for claimed in (*others(hostile, 6), "fe80::9:1", "fe80::9:2"):
        if claimed != "::":
            head = IPv6(src=claimed, dst="ff02::1", hlim=255)
            for said in (ICMPv6ND_NS(tgt=own), ICMPv6ND_RS(), ICMPv6ND_NA(tgt=claimed)):
                yield forger.frame(head / said / option)
    yield forger.frame(IPv6(src=own, dst="ff02::1", hlim=255) / ICMPv6ND_RA() / option)


def test_nobody_is_made_a_neighbour(hostile: Cluster, forger: Forger) -> None:
    """The node's table of neighbours is one for all: a pod that fills it cuts the node off."""
    forged = list(claims(hostile, forger))
    assert forger.dropped(forged) == ({"foreign_source": len(forged)}, {})
    own = {forger.address(4), forger.address(6), forger.link_local()}
    assert neighbours(forger) <= own


def test_the_node_says_so(hostile: Cluster, forger: Forger) -> None:
    to, name = hostile.host(4, "nginx1"), f"pod/{forger.pod.name}"
    forger.dropped([forger.frame(IP(src="8.8.8.8", dst=to) / UDP(sport=53, dport=80))])
    count = forger.drops()["foreign_source"]
    said = hostile.run("node1", "kubypass", "status")
    assert f"foreign_source {count}" in " ".join(said.split())
    line = f'kubypass_drops_total{{hook="from_pod",reason="foreign_source"}} {count}'
    assert line in hostile.run("node1", "kubypass", "metrics").splitlines()
    words = ["trace", "--from", name, "--source-address", "8.8.8.8", "--to", f"{to}:80/udp"]
    answer = run_in(find_target(hostile.box, "node1"), ["kubypass", *words])
    assert answer.returncode == 1
    assert "8.8.8.8: the source is not an address of the pod" in answer.stdout
    assert forger.address(4) in answer.stdout


@VERSIONS
def test_a_router_in_a_pod_from_one_moment_to_the_next(
    hostile: Cluster, forger: Forger, version: int
) -> None:
    source = {4: "203.0.113.77", 6: "2001:db8:cafe::77"}[version]
    frames = [
        forger.frame(ip(source, hostile.host(version, name).strip("[]")) / UDP(sport=4, dport=80))
        for name in ("nginx1", "nginx2")
    ]
    agent = hostile.status("node1")["agent"]["pid"]
    assert not any(map(forger.passes, frames))
    with router(forger.box, forger.pod, "allowed"):
        assert wait_until(lambda: all(map(forger.passes, frames)), 60)
        assert hostile.status("node1")["source_ip_verification"]["exempt_pods"] == 1
    assert wait_until(lambda: not any(map(forger.passes, frames)), 60)
    with router(forger.box, forger.pod, "perhaps"):
        assert forger.dropped(frames) == ({"foreign_source": len(frames)}, {})
    assert hostile.status("node1")["source_ip_verification"].get("exempt_pods", 0) == 0
    assert hostile.status("node1")["agent"]["pid"] == agent


def test_while_no_agent_runs_and_after_it(hostile: Cluster, forger: Forger) -> None:
    """Nothing gets through between a kill and the next agent's first look."""
    box, to = hostile.box, hostile.host(4, "nginx1")
    frame = forger.frame(IP(src="203.0.113.9", dst=to) / UDP(sport=4, dport=80))
    end = forger.frame(ip(forger.address(4), forger.other(4)) / UDP(sport=9, dport=9))
    agents.stop_agents(box.paths, signal.SIGKILL)
    try:
        starting = Thread(target=agents.start_agents, args=(box.paths, box.topology, box.settings))
        forger.heard()
        sent = {forger.send(frame)}
        starting.start()
        while starting.is_alive():
            sent.add(forger.send(frame))
            starting.join(0.01)
        assert not sent & forger.until_heard(end).keys()
    finally:
        agents.start_agents(box.paths, box.topology, box.settings)
