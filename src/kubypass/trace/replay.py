# SPDX-License-Identifier: Apache-2.0
"""`kubypass trace --pcap`: runs the packets of a capture through one program, with flows as they build up."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from kubypass.datapath import layout
from kubypass.errors import ConfigError, KernelError
from kubypass.model.address import Address, AddressPort, format_address_port
from kubypass.model.verdict import BackendList, Verdict
from kubypass.trace.capture import ETHERNET, Damage, Record
from kubypass.trace.frame import Ends, ethernet_frame, read_ends
from kubypass.trace.long_frame import LONGEST, lengthen, shorten
from kubypass.trace.messages import WHY
from kubypass.trace.programs import Outcome
from kubypass.trace.run import Answer
from kubypass.trace.traced_node import TracedNode
from kubypass.trace.tunnel import inside_tunnel, tunnel_end

PROGRAMS: Final = {
    "from-uplink": "from_uplink",
    "from-pod": "from_pod",
    "to-uplink": "to_uplink",
}
"""The hooks of `--hook`."""
_SHORTEST, _LINK_MTU_FRAME = 34, 1514
_SEGMENT_BYTES = 1400
_NEXT = {
    Verdict.TO_POD: "to a pod",
    Verdict.TO_NETWORK: "to the network",
    Verdict.DSR: "to the network, and its node answers the client (DSR)",
    Verdict.QUEUED: "kept until its first fragment comes",
}


@dataclass(frozen=True, slots=True)
class Service:
    """The service port that a flow uses, and the backend that it got."""

    name: str
    port: str
    backend: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of one packet, or why it could not be run."""

    number: int
    """Counted from 1, damaged records too."""
    time_ns: int
    error: str = ""
    ends: Ends | None = None
    outcome: Outcome | None = None
    after: Ends | None = None
    """Addresses and ports as the program left them."""
    service: Service | None = None
    sent: Record | None = None
    """The packet that leaves the program, or its answer; None where it is dropped."""

    @property
    def answer(self) -> Answer | None:
        """What became of the packet; None where it could not be run."""
        if self.outcome is None:
            return None
        verdict = self.outcome.verdict
        if verdict > Verdict.ANSWER:
            return Answer.REJECT
        if verdict > Verdict.DROP:
            return Answer.DROP
        return Answer.DNAT if self.translated else Answer.ACCEPT

    @property
    def translated(self) -> bool:
        """Whether the program changed addresses or ports."""
        return self.after is not None and self.after != self.ends

    @property
    def why(self) -> str:
        """What happens next, or why the packet ends here."""
        if self.outcome is None:
            return self.error
        verdict = self.outcome.verdict
        if verdict > Verdict.DROP:
            return WHY.get(verdict, verdict.name.lower().replace("_", " "))
        by = "by the node's stack " if self.outcome.seen else ""
        end = tunnel_end(self.outcome.packet) if verdict == Verdict.DSR else ""
        inside = f"in Geneve to {end}: " if end else ""
        return by + inside + _NEXT.get(verdict, "to the node's own network stack")


class Replay:
    """Runs packets one after another by the same hook, which is one of PROGRAMS."""

    def __init__(self, node: TracedNode, hook: str) -> None:
        name, _, where = hook.partition("=")
        if name not in PROGRAMS or bool(where) != (name == "from-pod"):
            known = "from-uplink, to-uplink or from-pod=POD"
            raise ConfigError(f"--hook {hook}: expected {known}; no program runs in XDP yet")
        self._node = node
        self._program = PROGRAMS[name]
        self._pod: Address | None = (
            node.pod_addresses(where, f"--hook {hook}")[0] if where else None
        )
        self._services: dict[Ends, Service] = {}
        """The services of known flows, by the ends of either direction."""

    def run(self, records: Iterable[Record | Damage]) -> Iterator[Replayed]:
        """Yields what became of each record."""
        for number, record in enumerate(records, 1):
            yield self._run(number, record)

    def _run(self, number: int, record: Record | Damage) -> Replayed:
        if isinstance(record, Damage):
            return Replayed(number, 0, record.why)
        frame = ethernet_frame(record)
        if frame is None:
            error = (
                f"link type {record.link_type} is none of Ethernet, raw IP, null and Linux cooked"
            )
            return Replayed(number, record.time_ns, error)
        if len(frame) < _SHORTEST:
            error = f"{len(frame)} bytes: a test run takes {_SHORTEST} at least, Ethernet's and IPv4's headers"
            return Replayed(number, record.time_ns, error)
        ends = read_ends(inside_tunnel(frame))
        try:
            outcome = self._send(frame, ends)
        except KernelError as error:
            why = f"{len(frame)} bytes: a test run does not take it ({os.strerror(error.errno)})"
            return Replayed(number, record.time_ns, why, ends)
        after = read_ends(inside_tunnel(outcome.packet)) if outcome.verdict < Verdict.DROP else None
        service = self._service(ends, after, outcome)
        return Replayed(
            number, record.time_ns, "", ends, outcome, after, service, _sent(record, outcome)
        )

    def _send(self, frame: bytes, ends: Ends | None) -> Outcome:
        """Runs one packet. TCP beyond a frame of Ethernet was joined by the device (GRO), or is yet to be cut (GSO)."""
        joined = ends is not None and ends.protocol == "TCP" and len(frame) > _LINK_MTU_FRAME
        short, cut = shorten(frame) if len(frame) > LONGEST else (frame, 0)
        outcome = self._node.programs.send(
            self._program, short, pod=self._pod, segment_bytes=_SEGMENT_BYTES if joined else 0
        )
        if not cut or outcome.verdict > Verdict.DROP:
            return outcome
        return replace(outcome, packet=lengthen(outcome.packet, frame, cut))

    def _service(self, ends: Ends | None, after: Ends | None, outcome: Outcome) -> Service | None:
        """The service of a packet: the program says it of a flow's first one, and the others have the same ends."""
        decision = outcome.decision
        if decision is None or ends is None:
            return self._services.get(ends) if ends else None
        known = self._node.explain_port(
            layout.Service.unpack(decision.service).id, BackendList(decision.list)
        )
        backend: AddressPort | None = None
        if decision.backend:
            backend = self._node.programs.backend_of(decision.backend)
        found = Service(
            known.service if known else "",
            known.port if known else "",
            format_address_port(*backend) if backend else "",
        )
        if after:
            self._services |= {ends: found, after.reply(): found}
        return found


def _sent(record: Record, outcome: Outcome) -> Record | None:
    """The record to write. What the capture had cut off is cut off again."""
    if Verdict.DROP <= outcome.verdict <= Verdict.ANSWER or outcome.verdict == Verdict.QUEUED:
        return None
    packet = outcome.packet
    kept = len(packet)
    if outcome.verdict < Verdict.DROP:
        kept -= min(record.length, 1 << 16) - len(record.data)
    return Record(record.time_ns, ETHERNET, packet[:kept], len(packet))
