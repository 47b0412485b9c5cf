# SPDX-License-Identifier: Apache-2.0
"""Sends frames from a pod's own device, and listens everywhere else in the box for what became of them."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_LSRR
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Packet, Raw

from kubypass.kernel.netns import inside
from kubypass.model.address import format_address, link_local_address
from kubypass_lab.box import agents
from kubypass_lab.box.box import Box
from kubypass_lab.box.files import write_json
from kubypass_lab.box.paths import CLIENT, NETNS
from kubypass_lab.box.process import wait_until
from kubypass_lab.box.record import PodRecord, read_pods

_EVERY_PROTOCOL = 3
_RAW = {
    socket.AF_INET: (1, 2, 6, 17, 47, 132),
    socket.AF_INET6: (6, 17, 47, 58, 132),
}
_BUFFER_BYTES = 8 << 20
_MARK = b"FORGED"
_DIGITS = 6
MARK_BYTES = len(_MARK) + _DIGITS
"""How much every frame carries behind what it is made of."""


class Forger:
    """One pod that sends what it likes. Whatever it sends carries a number, by which it is known again."""

    def __init__(self, box: Box, pod: PodRecord) -> None:
        self.box, self.pod = box, pod
        self._number = 0
        self._namespace = str(NETNS / box.paths.pod_namespace(pod.id))
        with inside(self._namespace):
            self._device = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self._device.bind(("eth0", 0))
        self.mac = str(self._device.getsockname()[4].hex(":"))
        self._taps = [*self._frames(), *self._deliveries()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        for sock in (self._device, *(tap for _, tap in self._taps)):
            sock.close()

    def _frames(self) -> Iterable[tuple[str, socket.socket]]:
        """What other pods and the client get, and what leaves the nodes or arrives there."""
        paths = self.box.paths
        hosts = {
            name: paths.namespace(name) for name in (CLIENT, *(n.name for n in self.box.nodes))
        }
        hosts |= {
            pod.name: paths.pod_namespace(pod.id) for pod in read_pods(paths) if pod != self.pod
        }
        for name, namespace in hosts.items():
            with inside(str(NETNS / namespace)):
                tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
                tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
                tap.bind(("eth0", _EVERY_PROTOCOL))
            yield name, tap

    def _deliveries(self) -> Iterable[tuple[str, socket.socket]]:
        """What the nodes' own stacks take for themselves."""
        for node in self.box.nodes:
            for family, protocols in _RAW.items():
                for protocol in protocols:
                    with inside(str(NETNS / self.box.paths.namespace(node.name))):
                        tap = socket.socket(family, socket.SOCK_RAW, protocol)
                    yield f"{node.name} itself", tap

    def gateway_mac(self) -> str:
        """The MAC address of the node's end of the link."""
        words = ["ip", "-n", self.box.paths.namespace(self.pod.node), "-br", "link", "show"]
        made = subprocess.run(
            [*words, self.pod.interface], check=True, capture_output=True, text=True
        )
        return made.stdout.split()[2]

    def frame(self, packet: Packet, **ethernet: str | int) -> Packet:
        """The packet in a frame to the node."""
        addresses: dict[str, Any] = {"src": self.mac, "dst": self.gateway_mac(), **ethernet}
        return Ether(**addresses) / packet

    def send(self, frame: Packet) -> str:
        """Sends a frame; returns its number."""
        self._number += 1
        number = f"{self._number:0{_DIGITS}}"
        self._device.send(bytes(frame / Raw(_MARK + number.encode())))
        return number

    def heard(self) -> dict[str, set[str]]:
        """Where each frame was seen since the last call, by its number."""
        found: dict[str, set[str]] = {}
        for host, tap in self._taps:
            for data in _received(tap):
                _, mark, rest = data.partition(_MARK)
                if mark:
                    found.setdefault(rest[:_DIGITS].decode(errors="replace"), set()).add(host)
        return found

    def drops(self) -> dict[str, int]:
        """What the node has dropped of what pods send, by reason."""
        status = agents.ask(self.box.paths, self.pod.node, "/status")
        rows = status["drops"]
        assert isinstance(rows, list)
        return {row["reason"]: row["packets"] for row in rows if row["hook"] == "from_pod"}

    def dropped(self, frames: Iterable[Packet]) -> tuple[dict[str, int], dict[str, set[str]]]:
        """Sends frames; returns how many the node dropped for which reason, and where others were heard."""
        self.heard()
        before = self.drops()
        sent = {self.send(frame): frame.summary() for frame in frames}
        end = self.frame(ip(self.address(4), self.other(4)) / UDP(sport=9, dport=9))
        heard = self.until_heard(end)
        assert heard, "not even the pod's own packet arrives"
        for number, hosts in self.heard().items():
            heard.setdefault(number, set()).update(hosts)
        counted = {reason: n - before.get(reason, 0) for reason, n in self.drops().items()}
        known = {sent[number]: hosts for number, hosts in heard.items() if number in sent}
        return {reason: n for reason, n in counted.items() if n}, known

    def until_heard(self, frame: Packet) -> dict[str, set[str]]:
        """Sends one frame, and waits until it is heard; returns all that was, nothing where it never is."""
        number = self.send(frame)
        found: dict[str, set[str]] = {}

        def is_there() -> bool:
            for key, hosts in self.heard().items():
                found.setdefault(key, set()).update(hosts)
            return number in found

        return found if wait_until(is_there) else {}

    def passes(self, frame: Packet) -> bool:
        """Whether one frame is heard anywhere before the pod's own packet that follows it."""
        return bool(self.dropped([frame])[1])

    def address(self, version: int) -> str:
        """The pod's own address."""
        return address_of(self.pod, version)

    def link_local(self) -> str:
        """The link-local address of the pod's interface."""
        return format_address(link_local_address(self.mac))

    def other(self, version: int) -> str:
        """The address of a pod on another node."""
        far = next(pod for pod in read_pods(self.box.paths) if pod.node != self.pod.node)
        return address_of(far, version)


def address_of(pod: PodRecord, version: int) -> str:
    """The pod's address of a family."""
    return next(text for text in pod.addresses if (":" in text) == (version == 6))


def ip(source: str, destination: str) -> Packet:
    """The header of either family."""
    return (IPv6 if ":" in source else IP)(src=source, dst=destination)


def packets(source: str, to: str, port: int) -> list[Packet]:
    """Everything that one can say in this name."""
    head = ip(source, to)
    number: dict[str, Any] = {"sport": 41000, "dport": port}
    udp, quoted = UDP(**number), ip(to, source) / UDP(sport=port, dport=4)
    said = [head / TCP(**number), head / TCP(**number, flags="R"), head / udp]
    said.append(head / SCTP(**number) / SCTPChunkInit())
    if head.version == 6:
        fragments = [IPv6ExtHdrFragment(id=5, m=1) / udp, IPv6ExtHdrFragment(id=5, offset=9, nh=17)]
        hidden = [IPv6ExtHdrDestOpt() / udp, IPv6ExtHdrRouting(segleft=1, addresses=[to]) / udp]
        told = [ICMPv6DestUnreach() / quoted, ICMPv6PacketTooBig(mtu=1280) / quoted]
        return said + [head / each for each in (*fragments, *hidden, *told, ICMPv6EchoRequest())]
    first, later, routed, gre = (head.copy() for _ in range(4))
    first.flags, first.id = "MF", 5
    later.frag, later.id, later.proto = 9, 5, 17
    routed.options = [IPOption_LSRR(routers=[to])]
    gre.proto = 47
    errors = [ICMP(type=3, code=3) / quoted, ICMP(type=5, code=1) / quoted]
    return [*said, first / udp, later, routed / udp, gre, *(head / e for e in (*errors, ICMP()))]


def _received(tap: socket.socket) -> Iterable[bytes]:
    while True:
        try:
            yield tap.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return


@contextmanager
def router(box: Box, pod: PodRecord, value: str) -> Iterator[None]:
    """The pod's annotation has this value for a while; its agent is not restarted."""
    record = box.paths.agent_run(pod.node) / "pods" / f"{pod.namespace}_{pod.name}.json"
    fields = json.loads(record.read_text())
    try:
        write_json(record, {**fields, "annotations": {"kubypass.io/foreign-sources": value}})
        yield
    finally:
        write_json(record, fields)
