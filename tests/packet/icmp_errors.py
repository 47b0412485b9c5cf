# SPDX-License-Identifier: Apache-2.0
"""ICMP errors as a router or a host sends them, and what the programs make of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from tests.packet.lab import PASS, REDIRECT, Lab
from tests.packet.packets import IN, Addresses, Flow, segment

Error = tuple[str, str, Flow]
"""Source and destination of an error, and the flow that it quotes."""
ERRORS: dict[int, list[Packet]] = {
    4: [
        ICMP(type=3, code=3),
        ICMP(type=3, code=4, nexthopmtu=1400),
        ICMP(type=11),
        ICMP(type=12, ptr=8),
    ],
    6: [
        ICMPv6DestUnreach(code=4),
        ICMPv6PacketTooBig(mtu=1400),
        ICMPv6TimeExceeded(),
        ICMPv6ParamProblem(ptr=6),
    ],
}


def router(who: Addresses) -> str:
    """Somewhere on the way."""
    return "198.51.100.1" if who.version == 4 else "2001:db8:1::1"


def quoted(who: Addresses, flow: Flow, **options: Any) -> Packet:
    """The IP packet of a flow, as an error quotes it."""
    return segment(who, flow, **{"ttl": 5, **options}).payload


def error(
    who: Addresses,
    source: str,
    destination: str,
    message: Packet,
    quote: Packet | bytes,
    where: Mapping[str, Any],
) -> bytes:
    """An error as a frame; `quote` is a packet, or what of it is quoted."""
    ethernet = Ether(src=where["smac"], dst=where["dmac"])
    return bytes(ethernet / who.ip(source, destination, where["ttl"]) / message / bytes(quote))


def check(
    lab: Lab,
    who: Addresses,
    program: str,
    arrives: Error,
    leaves: Error,
    where: Mapping[str, Any],
    code: int = REDIRECT,
    *,
    own: str | None = None,
) -> None:
    """An error, of (source, destination, quoted flow), and what it becomes; every kind of error.

    `own` is the source of those that do not keep it: all but those that trace a way.
    """
    traced, routed = ERRORS[who.version][2], leaves
    for message in ERRORS[who.version]:
        leaves = (own, *routed[1:]) if own and message is not traced else routed
        for protocol in ("TCP", "UDP"):
            sent, wanted = (
                error(who, row[0], row[1], message, quoted(who, row[2], protocol=protocol), way)
                for row, way in ((arrives, IN), (leaves, where))
            )
            # What is quoted of the transport's checksum stays as it was on the way.
            at = len(sent) - len(quoted(who, arrives[2], protocol=protocol))
            at += {4: 20, 6: 40}[who.version] + {"TCP": 16, "UDP": 6}[protocol]
            wanted = _keep_checksum(who, wanted, sent[at : at + 2], at)
            result = lab.run(program, sent)
            assert (result.code, result.packet) == (code, wanted), (message.summary(), protocol)


def _keep_checksum(who: Addresses, frame: bytes, checksum: bytes, at: int) -> bytes:
    frame = frame[:at] + checksum + frame[at + 2 :]
    if who.version == 4:
        packet: Packet = IP(frame[14:])
        del packet[ICMP].chksum
    else:
        packet = IPv6(frame[14:])
        del packet[IPv6].payload.cksum
    return frame[:14] + bytes(packet)


def open_flow(lab: Lab, who: Addresses, program: str, flow: Flow) -> None:
    """The first packets of a TCP and a UDP connection to a service, which is there for both."""
    for protocol in ("TCP", "UDP"):
        result = lab.run(program, segment(who, flow, protocol=protocol))
        assert result.code in (PASS, REDIRECT), result.counted


def serve(lab: Lab, address: str, port: int, backends: list[str], **options: Any) -> None:
    for protocol in ("TCP", "UDP"):
        lab.service(address, port, backends, protocol=protocol, **options)
