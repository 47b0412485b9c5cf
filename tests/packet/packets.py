# SPDX-License-Identifier: Apache-2.0
"""The hosts that packets come from and go to, in both families, and their TCP, UDP and SCTP packets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet

Flow = tuple[str, int, str, int]
"""Source address and port, destination address and port."""
GATEWAY_MAC, POD_MAC = "02:00:00:00:00:01", "02:00:00:00:64:14"
NODE_MAC = VETH_MAC = "02:00:00:00:64:01"
"""The node's devices share one: a frame for another MAC address than its device's is one for another host."""
IN: dict[str, Any] = {"smac": POD_MAC, "dmac": VETH_MAC, "ttl": 64}
"""How a pod's packet comes, and below how it goes on."""
TO_POD: dict[str, Any] = {"smac": VETH_MAC, "dmac": POD_MAC, "ttl": 63}
TO_NETWORK: dict[str, Any] = {"smac": NODE_MAC, "dmac": GATEWAY_MAC, "ttl": 63}


@dataclass(frozen=True)
class Addresses:
    """The addresses of all parties, in one family."""

    version: int
    node: str
    other_node: str
    client: str
    service: str
    pod: str
    second_pod: str
    remote_pod: str

    def ip(self, source: str, destination: str, ttl: int = 64) -> Packet:
        """An IP header of this family."""
        if self.version == 4:
            return IP(src=source, dst=destination, ttl=ttl, id=7)
        return IPv6(src=source, dst=destination, hlim=ttl)


V4 = Addresses(
    4, "192.168.1.31", "192.168.1.32", "203.0.113.9", "10.233.30.47",
    "10.233.64.14", "10.233.64.15", "10.233.65.14",
)  # fmt: skip
V6 = Addresses(
    6, "fd00:c0a8:1::31", "fd00:c0a8:1::32", "2001:db8:cafe::9", "fd00:10:233::47",
    "fd00:10:233:64::14", "fd00:10:233:64::15", "fd00:10:233:65::14",
)  # fmt: skip


def segment(who: Addresses, flow: Flow, **options: Any) -> Packet:
    """A TCP, UDP or SCTP packet; options: protocol, flags, seq, ack, ttl, payload, source and destination MAC."""
    source, source_port, destination, port = flow
    ethernet = Ether(src=options.get("smac", POD_MAC), dst=options.get("dmac", VETH_MAC))
    ip = who.ip(source, destination, int(str(options.get("ttl", 64))))
    transport: Packet
    if options.get("protocol") == "UDP":
        transport = UDP(sport=source_port, dport=port)
    elif options.get("protocol") == "SCTP":
        transport = SCTP(sport=source_port, dport=port, tag=77)
    else:
        numbers = {name: options[name] for name in ("seq", "ack") if name in options}
        flags = options.get("flags", "S")
        transport = TCP(sport=source_port, dport=port, flags=flags, **{"seq": 100, **numbers})
    return ethernet / ip / transport / bytes(str(options.get("payload", "hello")), "ascii")
