# SPDX-License-Identifier: Apache-2.0
"""Uplinks whose packets have no Ethernet header, or one that nobody can read, beside an agent that runs."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.packet import Packet

from kubypass.kernel.netns import inside
from kubypass_lab.bench.node import BareNode, agent, bare_node
from kubypass_lab.box.patience import DEADLINE_S
from tests.agent.bare_device import (
    IEEE_802_15_4,
    INFINIBAND,
    OURS,
    PEER,
    PPP,
    RAW_IP,
    TUN,
    TUNSETLINK,
    device,
    ip,
)
from tests.agent.far import BACKEND, NODE_PORT, neighbours, write_node_port

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")


class NodeWithPeer(NamedTuple):
    """A node with an agent, and the path of what is behind its eth0."""

    node: BareNode
    far: str


@pytest.fixture(scope="module")
def peered() -> Iterator[NodeWithPeer]:
    """Only events can tell the agent of a device: it looks at everything too rarely."""
    with bare_node() as node, neighbours(node, []) as far:
        write_node_port(node)
        with inside(far):
            server = socket.create_server((BACKEND, 8080))
        with server, agent(node, "--check-every", "3600"):
            yield NodeWithPeer(node, far)


def wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.05)


def uplinks(node: BareNode) -> set[str]:
    rows = node.status()["kube_proxy_replacement"]["devices"]
    return {row.split(" ")[0] for row in rows}


def problems(node: BareNode) -> str:
    return "\n".join(f"{p['subject']}: {p['message']}" for p in node.status()["problems"])


def answer(opened: int, packet: Packet, wanted: Callable[[Packet], bool]) -> None:
    """Sends a packet until the wanted answer comes, or the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        os.write(opened, bytes(packet))
        while select.select([opened], [], [], 1)[0]:
            found = IP(os.read(opened, 65536))
            if wanted(found):
                return
    raise AssertionError(f"no answer to {packet!r}")


def is_echo(found: Packet) -> bool:
    return ICMP in found and found[ICMP].type == 0 and found.src == OURS


PING = IP(src=PEER, dst=OURS) / ICMP(id=7, seq=1) / b"hello"


@pytest.mark.parametrize("kind", [TUN, PPP, RAW_IP], ids=["tun", "PPP", "raw IP"])
def test_a_device_without_header_takes_part(peered: NodeWithPeer, kind: int) -> None:
    """The node answers there, and its NodePorts do."""
    node = peered.node
    with device(node, kind) as opened:
        wait(lambda: uplinks(node) == {"eth0", "tun0"}, "tun0 takes part")
        assert problems(node) == ""
        answer(opened, PING, is_echo)
        port = 20000 + kind % 1000
        syn = IP(src=PEER, dst=OURS) / TCP(sport=port, dport=NODE_PORT, flags="S", seq=100)
        answer(
            opened,
            syn,
            lambda found: (
                TCP in found
                and (found.src, found.sport, found.dport) == (OURS, NODE_PORT, port)
                and (str(found[TCP].flags), found[TCP].ack) == ("SA", 101)
            ),
        )
        nobody = IP(src=PEER, dst=OURS) / TCP(sport=port, dport=22, flags="S", seq=100)
        answer(opened, nobody, lambda found: TCP in found and found.sport == 22)
    wait(lambda: uplinks(node) == {"eth0"}, "tun0 is gone")


@pytest.mark.parametrize("kind", [INFINIBAND, IEEE_802_15_4])
def test_a_device_that_cannot_be_served_is_a_problem_and_works(
    peered: NodeWithPeer, kind: int
) -> None:
    """Its packets go to the node's stack, and nothing else."""
    node = peered.node
    with device(node, kind) as opened:
        wait(lambda: "Device tun0: takes no part" in problems(node), "the problem")
        assert "a header that kubypass cannot read" in problems(node)
        assert "NodePorts and external addresses are not served there" in problems(node)
        assert uplinks(node) == {"eth0"}
        answer(opened, PING, is_echo)
        refused = IP(src=PEER, dst=OURS) / TCP(sport=5, dport=NODE_PORT, flags="S", seq=100)
        answer(opened, refused, lambda found: TCP in found and "R" in str(found[TCP].flags))
    wait(lambda: problems(node) == "", "the problem is gone")


def test_a_device_that_changes_its_type(peered: NodeWithPeer) -> None:
    """A bond does so when it gets its first port. What was attached for the other header goes."""
    node = peered.node
    with device(node, TUN) as opened:
        wait(lambda: uplinks(node) == {"eth0", "tun0"}, "tun0 takes part")
        answer(opened, PING, is_echo)
        ip(node, "link set tun0 down")
        fcntl.ioctl(opened, TUNSETLINK, IEEE_802_15_4)
        ip(node, "link set tun0 up", f"route add default via {PEER} dev tun0")
        wait(lambda: "Device tun0: takes no part" in problems(node), "the problem")
        answer(opened, PING, is_echo)
        pins = (node.root / "bpf").rglob("tun0-*")
        assert not list(pins)
    wait(lambda: problems(node) == "", "the problem is gone")
