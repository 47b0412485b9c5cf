# SPDX-License-Identifier: Apache-2.0
"""Explains a connection step by step: the decision, the packet on its way out, and the answer on its way back."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kubypass.datapath import layout
from kubypass.kernel.netlink import Netlink
from kubypass.model.address import (
    Address,
    AddressPort,
    format_address,
    format_address_port,
    is_ipv4,
    mapped_address,
    parse_address,
)
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import BackendList, LocalAddressKind, ServiceFlag, Verdict
from kubypass.plan.explain import PortExplanation
from kubypass.trace.driver import Driver
from kubypass.trace.messages import (
    CHANGE,
    WHY,
    ExplainPort,
    client_words,
    frontend_kind,
    masquerade_words,
    reason,
    rule,
    selection_words,
)
from kubypass.trace.packets import Flow, build, read
from kubypass.trace.programs import Outcome, Programs
from kubypass.trace.run import PACKET_PROGRAM, Answer, Run, Source, run
from kubypass.trace.tunnel import tunnel_end

_REPLY_PROGRAM = {LocalAddressKind.POD: "from_pod", None: "from_uplink"}


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the explanation."""

    where: str
    """The program that ran, or what the line is about."""
    text: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `kubypass trace` prints of one connection."""

    run: Run
    steps: tuple[Step, ...]
    service: PortExplanation | None
    reason: str
    change: str
    """What the operator can do about it; empty where the connection gets through."""


def explain(
    programs: Programs,
    flow: Flow,
    source: Source,
    local: frozenset[Address],
    explain_port: ExplainPort,
    *,
    pod: Address | None = None,
) -> Explanation:
    """Runs a new connection and its first answer. The calling thread is in the node's network namespace.

    `pod` is an address of the pod that sends, where the flow's source is another.
    """
    found = run(programs, flow, source, local, pod)
    decision = found.decided.decision if found.decided else None
    known = None
    if decision:
        number = layout.Service.unpack(decision.service).id
        known = explain_port(number, BackendList(decision.list))
    steps = [*_decision_steps(found, known), *_packet_steps(programs, found)]
    change = CHANGE.get(found.verdict, "")
    return Explanation(found, tuple(steps), known, reason(found, explain_port), change)


def _decision_steps(found: Run, known: PortExplanation | None) -> Iterator[Step]:
    """What each program found, and the rule that decided."""
    for outcome in found.outcomes:
        if outcome.decision is None:
            looked = "" if outcome.verdict == Verdict.FOREIGN else "no frontend: "
            yield Step(outcome.program, f"{looked}{_outcome_words(outcome)}")
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
        if selection := selection_words(decision):
            yield Step("selection", selection)
        if service.affinity_s:
            yield Step("affinity", f"a client keeps its endpoint for {service.affinity_s} s")
    if found.backend:
        yield Step("backend", f"{format_address_port(*found.backend)}; {masquerade_words(found)}")
    elif found.answer != Answer.ACCEPT:
        yield Step(found.answer, WHY.get(found.verdict, found.verdict.name.lower()))


def _outcome_words(outcome: Outcome) -> str:
    name = outcome.verdict.name.lower().replace("_", " ")
    name = {"pass": "left as it is"}.get(name, name)
    why = WHY.get(outcome.verdict)
    return f"{name} ({why})" if why else name


def _packet_steps(programs: Programs, found: Run) -> Iterator[Step]:
    """The packet as it leaves, and its answer; nothing where the connection is refused."""
    if found.answer in {Answer.DROP, Answer.REJECT} or found.verdict == Verdict.FOREIGN:
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
        last = _send_to_backend(programs, found, found.backend)
    sent = read(last.packet)
    yield Step(last.program, f"{_ends(sent)}; {_next_hop(programs, last, sent)}")
    driver = Driver(programs)
    yield from _driver_steps(driver, last, build(found.flow))
    yield from _reply_steps(programs, driver, found, sent)


def _driver_steps(driver: Driver, outcome: Outcome, frame: bytes) -> Iterator[Step]:
    """What XDP does with a packet that from_uplink sends to the network, where the uplink has it."""
    if outcome.program == "from_uplink" and outcome.verdict == Verdict.TO_NETWORK:
        words = driver.compare(frame, outcome.packet)
        if words:
            yield Step("xdp", words)


def _send_to_backend(programs: Programs, found: Run, backend: AddressPort) -> Outcome:
    """Sends the packet of a socket that the socket hook connected to the backend."""
    flow = found.flow
    direct = Flow(flow.source, flow.source_port, *backend, flow.protocol)
    pod = flow.source if found.source == Source.POD else None
    return programs.send(PACKET_PROGRAM[found.source], build(direct), pod=pod)


def _reply_steps(programs: Programs, driver: Driver, found: Run, sent: Flow) -> Iterator[Step]:
    """Sends the first answer through the program that sees it."""
    raw = programs.maps["local_addresses"].lookup(sent.destination)
    kind = layout.LocalAddress.unpack(raw).kind if raw else None
    to_self = found.source == Source.NODE and found.flow.protocol == Protocol.SCTP
    own = "to_self" if to_self else "to_uplink"
    program = _REPLY_PROGRAM.get(LocalAddressKind(kind) if kind else None, own)
    pod = sent.destination if program == "from_pod" else None
    frame = build(sent.reply(), reply=True)
    answer = programs.send(program, frame, pod=pod)
    back = read(answer.packet)
    before = sent.reply()
    text = (
        f"{_ends(back)}, as it is" if back == before else f"{_ends(before)} becomes {_ends(back)}"
    )
    yield Step(f"back: {program}", f"{text}; {_next_hop(programs, answer, back)}")
    yield from _driver_steps(driver, answer, frame)


def _ends(flow: Flow) -> str:
    source = format_address_port(flow.source, flow.source_port)
    return f"{source} -> {format_address_port(flow.destination, flow.destination_port)}"


def _next_hop(programs: Programs, outcome: Outcome, sent: Flow) -> str:
    """Where the packet goes next. The devices of a scratch network mean nothing and are not named."""
    if outcome.seen:
        way = f"through the node's stack, whose netfilter sees {_ends(read(outcome.seen))}; then "
        return way + _next_hop(programs, replace(outcome, seen=b""), sent)
    if outcome.verdict == Verdict.TO_POD:
        if programs.scratch_network:
            return f"into the pod {format_address(sent.destination)}"
        raw = programs.maps["local_addresses"].lookup(sent.destination)
        index = layout.LocalAddress.unpack(raw).ifindex if raw else 0
        return f"into the pod by {_device(index)}"
    if outcome.verdict in {Verdict.TO_NETWORK, Verdict.DSR}:
        end = tunnel_end(outcome.packet)
        to = parse_address(end) if end else sent.destination
        route = f"{f' in Geneve to {end}' if end else ''}{'' if programs.scratch_network else _route(to)}"
        answered = "; the backend's node answers the client (DSR)"
        return f"to the network{route}{answered if outcome.verdict == Verdict.DSR else ''}"
    if outcome.verdict == Verdict.PASS:
        return "to the node's own network stack"
    return _outcome_words(outcome)


def _device(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"device {index}"


def _route(destination: Address) -> str:
    """The device and the next hop of the kernel's route; empty where it has none."""
    with Netlink() as netlink:
        route = netlink.get_route(destination[12:] if is_ipv4(destination) else destination)
    if route is None:
        return ""
    hop = format_address(mapped_address(route.gateway) if route.gateway else destination)
    return f" by {_device(route.ifindex)}, next hop {hop}"
