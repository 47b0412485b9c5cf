# SPDX-License-Identifier: Apache-2.0
"""One seam between tc and XDP: the same parse, lookup and rewrite give the same bytes with either context.

`seam.bpf.c` is compiled once with bpf/skb and once with bpf/xdp. Nothing is attached.
"""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from kubypass.datapath import layout
from kubypass.kernel.bpf import Map
from kubypass.kernel.libbpf import ObjectFile
from kubypass.kernel.program import Program
from kubypass.model.address import parse_address
from tests.packet.lab import NUMBERS, config
from tests.packet.map_entries import note_ports
from tests.packet.packets import POD_MAC, V4, V6, VETH_MAC, Addresses, segment

BUILD = Path(__file__).resolve().parents[2] / "build/tests"
SIZES = {
    "services": 64,
    "backends": 64,
    "slots": 64,
    "flows": 64,
    "transient_flows": 64,
    "fragments": 64,
}
TC_PASS, XDP_PASS = 0, 2
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")


class Ability(IntFlag):
    """enum ability of bpf/abilities.h."""

    MARK = 1
    SEGMENTS = 2
    DEVICE_CHECKSUM = 4
    REDIRECT_IN = 8
    NEIGHBOUR = 16
    COPY = 32
    PACKET_TYPE = 64


SHOWN = Ability.MARK | Ability.SEGMENTS | Ability.REDIRECT_IN | Ability.NEIGHBOUR
SHOWN |= Ability.COPY
"""What the program can show by calling the function; the others are properties of the packet's origin."""


@dataclass
class Seam:
    """The same programs with both contexts, over the same maps."""

    skb: dict[str, Program]
    xdp: dict[str, Program]
    flows: Map

    def both(self, program: str, packet: bytes) -> tuple[bytes, bytes]:
        """What each context makes of the packet."""
        return (
            self.skb[program].test_run(packet).data,
            self.xdp[program].test_run(packet).data,
        )


def _load(context: str, maps: dict[str, Map]) -> dict[str, Program]:
    with ObjectFile(BUILD / f"seam.{context}.bpf.o") as opened:
        opened.set_rodata(config().pack())
        opened.set_max_entries({name: SIZES[name] for name in SIZES if name in opened.map_names})
        opened.reuse_maps({name: one.fd for name, one in maps.items() if name in opened.map_names})
        opened.load()
        for name in opened.map_names:
            maps.setdefault(name, Map(os.dup(opened.map_fd(name))))
        return {name: Program(os.dup(opened.program_fd(name))) for name in opened.program_names}


@pytest.fixture(scope="module")
def seam() -> Seam:
    maps: dict[str, Map] = {}
    skb = _load("skb", maps)
    note_ports(maps)
    return Seam(skb, _load("xdp", maps), maps["transient_flows"])


def _remember(seam: Seam, who: Addresses, protocol: str, target: tuple[str, int, str, int]) -> None:
    """A flow from the client's port 40000 to the service's port 80; `target` is what its packets become."""
    key = layout.Tuple(
        parse_address(who.client), parse_address(who.service), 40000, 80, NUMBERS[protocol]
    )
    source, source_port, destination, port = target
    hour = time.monotonic_ns() + 3600 * 10**9
    value = layout.Flow(
        parse_address(source),
        parse_address(destination),
        source_port,
        port,
        0,
        0,
        0,
        0,
        0,
        hour,
        0,
        0,
    )
    seam.flows.update(key.pack(), value.pack())


@pytest.mark.parametrize("who", [V4, V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP"])
@pytest.mark.parametrize("payload", ["", "odd", "long " * 200])
def test_both_contexts_translate_alike(
    seam: Seam, who: Addresses, protocol: str, payload: str
) -> None:
    _remember(seam, who, protocol, (who.node, 61000, who.remote_pod, 8080))
    packet = segment(who, (who.client, 40000, who.service, 80), protocol=protocol, payload=payload)
    skb, xdp = seam.both("rewrite", bytes(packet))
    assert skb == xdp
    expected = segment(
        who, (who.node, 61000, who.remote_pod, 8080), protocol=protocol, payload=payload,
        smac=VETH_MAC, dmac=POD_MAC, ttl=63,
    )  # fmt: skip
    assert xdp == bytes(expected)


def test_both_contexts_keep_a_udp_checksum_that_is_absent(seam: Seam) -> None:
    _remember(seam, V4, "UDP", (V4.node, 61000, V4.remote_pod, 8080))
    udp = UDP(sport=40000, dport=80, chksum=0)
    skb, xdp = seam.both("rewrite", bytes(Ether() / IP(src=V4.client, dst=V4.service) / udp / b"x"))
    assert skb == xdp
    assert Ether(xdp)[UDP].chksum == 0


@pytest.mark.parametrize("who", [V4, V6], ids=["IPv4", "IPv6"])
def test_both_contexts_leave_an_unknown_flow_as_it_is(seam: Seam, who: Addresses) -> None:
    packet = bytes(segment(who, (who.client, 40001, who.service, 80)))
    assert seam.both("rewrite", packet) == (packet, packet)
    assert seam.skb["rewrite"].test_run(packet).retval == TC_PASS
    assert seam.xdp["rewrite"].test_run(packet).retval == XDP_PASS


@pytest.mark.parametrize("who", [V4, V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("size", [0, 1, 700, 1400])
def test_both_contexts_make_the_same_icmp_error(seam: Seam, who: Addresses, size: int) -> None:
    packet = segment(who, (who.client, 40000, who.service, 80), payload="k" * size)
    skb, xdp = seam.both("refuse", bytes(packet))
    assert skb == xdp
    assert Ether(xdp).src == packet.dst
    assert bytes(packet)[14:80] in xdp, "the error quotes the packet"


@pytest.mark.parametrize("who", [V4, V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("cut", [20, 4, 1])
def test_both_contexts_refuse_what_is_cut(seam: Seam, who: Addresses, cut: int) -> None:
    packet = bytes(segment(who, (who.client, 40000, who.service, 80), payload=""))[:-cut]
    assert seam.both("rewrite", packet) == (packet, packet)


def test_each_context_names_what_it_lacks(seam: Seam) -> None:
    context = bytearray(192)
    struct.pack_into("<I", context, 176, 500)  # gso_size of struct __sk_buff
    packet = bytes(segment(V4, (V4.client, 40000, V4.service, 80), payload="k" * 1000))
    skb = seam.skb["abilities"].test_run(packet, context=bytes(context)).retval
    xdp = seam.xdp["abilities"].test_run(packet).retval
    assert Ability(skb >> 16) == Ability(127)
    assert Ability(skb & 0xFFFF) == SHOWN
    assert Ability(xdp) == Ability(0)
