# SPDX-License-Identifier: Apache-2.0
"""A connection's whole way: the decision, the packet on its way out, and its answer on the way back."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from kubypass.datapath import layout
from kubypass.model.address import Address, format_address, format_address_port
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import BackendList, LocalAddressKind, ServiceFlag, Verdict
from kubypass.plan.explain import Explained
from kubypass.trace.messages import (
    CHANGE,
    WHY,
    Explain,
    client_words,
    frontend_kind,
    masquerade_words,
    reason,
    rule,
)
from kubypass.trace.packets import Flow, build, read
from kubypass.trace.programs import Outcome, Programs
from kubypass.trace.run import PACKET_PROGRAM, Answer, Run, Source, run

_REPLY_PROGRAM = {LocalAddressKind.POD: "from_pod", None: "from_uplink"}


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the story."""

    where: str
    """The program, or the subject."""
    text: str


@dataclass(frozen=True, slots=True)
class Story:
    """What `kubypass trace` tells."""

    run: Run
    steps: tuple[Step, ...]
    service: Explained | None
    reason: str
    change: str
    """What would make it otherwise; empty where it works."""


def tell(
    programs: Programs, flow: Flow, source: Source, local: frozenset[Address], explain: Explain
) -> Story:
    """Runs a new connection and its first answer; in the network namespace of the node."""
    found = run(programs, flow, source, local)
    decision = found.decided.decision if found.decided else None
    known = None
    if decision:
        number = layout.Service.unpack(decision.service).id
        known = explain(number, BackendList(decision.list))
    steps = [*_decision(found, known), *_way(programs, found)]
    return Story(found, tuple(steps), known, reason(found, explain), CHANGE.get(found.verdict, ""))


def _decision(found: Run, known: Explained | None) -> Iterator[Step]:
    for outcome in found.outcomes:
        if outcome.decision is None:
            yield Step(outcome.program, f"no frontend: {_said(outcome)}")
            continue
        decision = outcome.decision
        service = layout.Service.unpack(decision.service)
        whose = f" of {known.service}:{known.port}" if known else f" of service {service.id}"
        asked = format_address_port(
            found.flow.destination, found.flow.destination_port, found.flow.protocol
        )
        yield Step(outcome.program, f"{asked} is the {frontend_kind(service)}{whose}")
        yield Step("client", client_words(decision))
        if service.flags & ServiceFlag.SOURCE_RANGES:
            inside = "out of" if found.verdict == Verdict.DROP_SOURCE_RANGE else "in"
            yield Step("source ranges", f"the client is {inside} loadBalancerSourceRanges")
        if found.verdict != Verdict.DROP_SOURCE_RANGE:
            yield Step(
                "rule",
                f"{rule(decision)}: {len(found.candidates)} of "
                f"{len(known.endpoints) if known else len(found.candidates)} endpoints",
            )
        if service.affinity_s:
            yield Step("affinity", f"a client keeps its endpoint for {service.affinity_s} s")
    if found.backend:
        yield Step("backend", f"{format_address_port(*found.backend)}; {masquerade_words(found)}")
    elif found.answer != Answer.ACCEPT:
        yield Step(found.answer, WHY.get(found.verdict, found.verdict.name.lower()))


def _said(outcome: Outcome) -> str:
    name = outcome.verdict.name.lower().replace("_", " ")
    name = {"pass": "left as it is"}.get(name, name)
    why = WHY.get(outcome.verdict)
    return f"{name} ({why})" if why else name


def _way(programs: Programs, found: Run) -> Iterator[Step]:
    """Out by the packet's program, and back."""
    if found.answer in {Answer.DROP, Answer.REJECT}:
        return
    last = found.outcomes[-1] if found.outcomes else None
    if last is None or not last.packet:
        if not found.backend:
            yield Step("loopback", "stays on the node: its own network stack has it")
            return
        yield Step(
            "socket",
            f"packets carry {format_address_port(*found.backend)}; the socket shows the service",
        )
        last = _send_translated(programs, found)
        if last is None:
            return
    sent = read(last.packet)
    yield Step(last.program, f"{_ends(sent)}; {_direction(programs, last, sent)}")
    yield from _back(programs, found, sent)


def _send_translated(programs: Programs, found: Run) -> Outcome | None:
    """The socket's packet, which has the backend's address already."""
    flow = found.flow
    if not found.backend:
        return None
    direct = Flow(flow.source, flow.source_port, *found.backend, flow.protocol)
    return programs.send(PACKET_PROGRAM[found.source], build(direct))


def _back(programs: Programs, found: Run, sent: Flow) -> Iterator[Step]:
    """The first answer, through the program that sees it."""
    raw = programs.maps["local_addresses"].lookup(sent.destination)
    kind = layout.LocalAddress.unpack(raw).kind if raw else None
    to_self = found.source == Source.NODE and found.flow.protocol == Protocol.SCTP
    own = "to_self" if to_self else "to_uplink"
    program = _REPLY_PROGRAM.get(LocalAddressKind(kind) if kind else None, own)
    answer = programs.send(program, build(sent.reply(), reply=True))
    back = read(answer.packet)
    before = sent.reply()
    text = (
        f"{_ends(back)}, as it is" if back == before else f"{_ends(before)} becomes {_ends(back)}"
    )
    yield Step(f"back: {program}", f"{text}; {_direction(programs, answer, back)}")


def _ends(flow: Flow) -> str:
    source = format_address_port(flow.source, flow.source_port)
    return f"{source} -> {format_address_port(flow.destination, flow.destination_port)}"


def _direction(programs: Programs, outcome: Outcome, sent: Flow) -> str:
    if outcome.verdict == Verdict.TO_POD:
        if programs.scratch_network:
            return f"into the pod {format_address(sent.destination)}"
        raw = programs.maps["local_addresses"].lookup(sent.destination)
        index = layout.LocalAddress.unpack(raw).ifindex if raw else 0
        return f"into the pod by {_device(index)}"
    if outcome.verdict == Verdict.TO_NETWORK:
        return "to the network" + ("" if programs.scratch_network else _route(sent.destination))
    if outcome.verdict == Verdict.PASS:
        return "to the node's own network stack"
    return _said(outcome)


def _device(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"device {index}"


def _route(destination: Address) -> str:
    """By which device and next hop, as the kernel's routes say."""
    done = subprocess.run(
        ["ip", "-j", "route", "get", format_address(destination)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        (route,) = json.loads(done.stdout)
    except ValueError:
        return ""
    hop = route.get("gateway", format_address(destination))
    return f" by {route.get('dev')}, next hop {hop}"
