# SPDX-License-Identifier: Apache-2.0
"""Runs one new connection through the programs that it meets on the node, and keeps what they decided."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from kubypass.datapath import layout
from kubypass.model.address import Address, AddressPort, is_loopback
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import BackendList, Verdict
from kubypass.trace.packets import Flow, build, read
from kubypass.trace.programs import Outcome, Programs


class Source(StrEnum):
    """Where a connection comes from."""

    POD = "pod"
    NODE = "node"
    EXTERNAL = "external"


PACKET_PROGRAM = {
    Source.POD: "from_pod",
    Source.NODE: "to_uplink",
    Source.EXTERNAL: "from_uplink",
}


class Answer(StrEnum):
    """What becomes of a connection."""

    DNAT = "dnat"
    REJECT = "reject"
    DROP = "drop"
    ACCEPT = "accept"


@dataclass(frozen=True, slots=True)
class Run:
    """What the programs did with the first packet of one connection."""

    flow: Flow
    source: Source
    outcomes: tuple[Outcome, ...]
    """One for each program that ran, in order; the last one says what became of the packet."""
    candidates: tuple[AddressPort, ...]
    """All backends that a new connection could get."""
    backend: AddressPort | None
    """The backend that this connection got."""
    own: tuple[Address, ...] = ()
    """The addresses of the pod that sends, where the flow's source is none of them."""

    @property
    def decided(self) -> Outcome | None:
        """The outcome of the program that found a service and decided."""
        return next((one for one in self.outcomes if one.decision), None)

    @property
    def verdict(self) -> Verdict:
        """The decision's verdict where it ended the connection, else the last program's."""
        decided = self.decided
        if decided and decided.decision and decided.decision.verdict > Verdict.DROP:
            return Verdict(decided.decision.verdict)
        return self.outcomes[-1].verdict if self.outcomes else Verdict.PASS

    @property
    def answer(self) -> Answer:
        """What becomes of the connection."""
        if self.verdict > Verdict.ANSWER:
            return Answer.REJECT
        if self.verdict > Verdict.DROP:
            return Answer.DROP
        return Answer.DNAT if self.backend else Answer.ACCEPT

    @property
    def new_source(self) -> AddressPort | None:
        """The address and port that a pod's packet leaves with, where these are an address of the node."""
        packet = self.outcomes[-1].packet if self.outcomes and self.source == Source.POD else b""
        sent = read(packet) if packet else self.flow
        return (sent.source, sent.source_port) if sent.source != self.flow.source else None

    @property
    def lost_source(self) -> bool:
        """Whether a client outside has lost its address, which DSR would have kept."""
        packet = self.outcomes[-1].packet if self.outcomes else b""
        return (
            self.source == Source.EXTERNAL
            and bool(packet)
            and read(packet).source != self.flow.source
        )

    @property
    def masquerade(self) -> bool:
        """Whether kube-proxy would masquerade the connection. A translated socket does not need it."""
        decided = self.decided
        return bool(self.backend and decided and decided.decision and decided.decision.masquerade)


def run(
    programs: Programs,
    flow: Flow,
    source: Source,
    local: frozenset[Address],
    pod: Address | None = None,
) -> Run:
    """Runs the first packet of a new connection; `local` are the node's own addresses.

    A client that has one of these addresses counts as the node: it may be a pod in the node's network namespace. `pod`
    is an address of the pod that sends, where the flow's source is another.
    """
    if flow.source in local and not pod:
        source = Source.NODE
    programs.forget()
    outcomes = tuple(_outcomes(programs, flow, source, local, pod or flow.source))
    decision = next((one.decision for one in outcomes if one.decision), None)
    if decision is None:
        foreign = bool(outcomes) and outcomes[-1].verdict == Verdict.DROP_FOREIGN_SOURCE
        own = programs.addresses_of(pod or flow.source) if foreign else ()
        return Run(flow, source, outcomes, (), None, own)
    if not decision.backend:
        return Run(flow, source, outcomes, (), None)
    candidates = tuple(_candidates(programs, decision))
    backend = programs.backend_of(decision.backend)
    return Run(flow, source, outcomes, candidates, backend)


def _outcomes(
    programs: Programs, flow: Flow, source: Source, local: frozenset[Address], pod: Address
) -> Iterator[Outcome]:
    """The socket call first, where the client has a socket here; then the packet, unless the call decided.

    Whatever a pod's socket does, its packets have to have an address of the pod: that is looked at before.
    """
    if source == Source.POD:
        packet = programs.send("from_pod", build(flow), pod=pod)
        if packet.verdict == Verdict.DROP_FOREIGN_SOURCE:
            yield packet
            return
        programs.forget()
    if source != Source.EXTERNAL and flow.protocol != Protocol.SCTP:
        call = programs.connect(flow, of_node=source == Source.NODE)
        yield call
        if call.decision or call.verdict > Verdict.DROP:
            return
    if source == Source.NODE and (flow.destination in local or is_loopback(flow.destination)):
        if flow.protocol == Protocol.SCTP:  # for TCP and UDP, the socket call has decided
            yield programs.send("to_self", build(flow))
        return
    yield programs.send(
        PACKET_PROGRAM[source], build(flow), pod=pod if source == Source.POD else None
    )


def _candidates(programs: Programs, decision: layout.DecisionRecord) -> Iterator[AddressPort]:
    """The backends in the slots of the list that the decision chose."""
    service = layout.Service.unpack(decision.service)
    first, count = service.first_slot, service.backends
    if decision.list == BackendList.LOCAL:
        first, count = first + count, service.local_backends
    for slot in range(first, first + count):
        raw = programs.maps["slots"].lookup(struct.pack("<I", slot))
        if raw is not None:
            yield programs.backend_of(struct.unpack("<I", raw)[0])
