# SPDX-License-Identifier: Apache-2.0
"""One new connection through the programs that it meets on the node, and what they decided."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from kubypass.datapath import layout
from kubypass.model.address import Address, is_loopback
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import BackendList, Verdict
from kubypass.trace.packets import Flow, build
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
    """What becomes of the connection, in one word."""

    DNAT = "dnat"
    REJECT = "reject"
    DROP = "drop"
    ACCEPT = "accept"


@dataclass(frozen=True, slots=True)
class Run:
    """All that was seen of one connection's first packet."""

    flow: Flow
    source: Source
    outcomes: tuple[Outcome, ...]
    """In order; the last one is what became of it."""
    candidates: tuple[tuple[Address, int], ...]
    """All backends that a new connection could get."""
    backend: tuple[Address, int] | None

    @property
    def decided(self) -> Outcome | None:
        """The program that found a service, and decided."""
        return next((one for one in self.outcomes if one.decision), None)

    @property
    def verdict(self) -> Verdict:
        """Of the decision where that ended it, else of the last program."""
        decided = self.decided
        if decided and decided.decision and decided.decision.verdict > Verdict.DROP:
            return Verdict(decided.decision.verdict)
        return self.outcomes[-1].verdict if self.outcomes else Verdict.PASS

    @property
    def answer(self) -> Answer:
        """In one word."""
        if self.verdict > Verdict.ANSWER:
            return Answer.REJECT
        if self.verdict > Verdict.DROP:
            return Answer.DROP
        return Answer.DNAT if self.backend else Answer.ACCEPT

    @property
    def masquerade(self) -> bool:
        """Whether kube-proxy's rules hide the client's address; a translated socket has no need to."""
        decided = self.decided
        return bool(self.backend and decided and decided.decision and decided.decision.masquerade)


def run(programs: Programs, flow: Flow, source: Source, local: frozenset[Address]) -> Run:
    """The first packet of a new connection; `local` are the node's own addresses.

    What has one of those as its source is the node's, whoever is said to send it: a pod in its network, say.
    """
    if flow.source in local:
        source = Source.NODE
    programs.forget()
    outcomes = tuple(_outcomes(programs, flow, source, local))
    decision = next((one.decision for one in outcomes if one.decision), None)
    if decision is None:
        return Run(flow, source, outcomes, (), None)
    if not decision.backend:
        return Run(flow, source, outcomes, (), None)
    candidates = tuple(_candidates(programs, decision))
    backend = _backend(programs, decision.backend)
    return Run(flow, source, outcomes, candidates, backend)


def _outcomes(
    programs: Programs, flow: Flow, source: Source, local: frozenset[Address]
) -> Iterator[Outcome]:
    if source != Source.EXTERNAL and flow.protocol != Protocol.SCTP:
        call = programs.connect(flow, of_node=source == Source.NODE)
        yield call
        if call.decision or call.verdict > Verdict.DROP:
            return
    if source == Source.NODE and (flow.destination in local or is_loopback(flow.destination)):
        if flow.protocol == Protocol.SCTP:  # others' sockets were asked
            yield programs.send("to_self", build(flow))
        return
    yield programs.send(PACKET_PROGRAM[source], build(flow))


def _candidates(
    programs: Programs, decision: layout.DecisionRecord
) -> Iterator[tuple[Address, int]]:
    service = layout.Service.unpack(decision.service)
    first, count = service.first_slot, service.backends
    if decision.list == BackendList.LOCAL:
        first, count = first + count, service.local_backends
    for slot in range(first, first + count):
        raw = programs.maps["slots"].lookup(struct.pack("<I", slot))
        if raw is not None:
            yield _backend(programs, struct.unpack("<I", raw)[0])


def _backend(programs: Programs, number: int) -> tuple[Address, int]:
    raw = programs.maps["backends"].lookup(struct.pack("<I", number))
    found = layout.Backend.unpack(raw or bytes(layout.BACKEND_SIZE))
    return Address(found.address), found.port
