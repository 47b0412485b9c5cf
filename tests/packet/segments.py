# SPDX-License-Identifier: Apache-2.0
"""One TCP connection to a service, segment by segment, with the numbers that both ends would send."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from kubypass.datapath import layout
from kubypass.model.address import parse_address
from kubypass.model.verdict import FlowDirection, FlowState
from tests.packet.lab import REDIRECT, Lab
from tests.packet.packets import Addresses, segment
from tests.packet.translation import destination, ports

WRAP = 1 << 32
SECOND_NS = 10**9


@dataclass
class Conversation:
    """A pod's connection; `client` and `server` are the next numbers that they send."""

    lab: Lab
    who: Addresses
    client: int = 30_000_000
    server: int = 70_000_000
    port: int = 40000
    backend: str = ""

    def ask(
        self, flags: str, seq: int | None = None, ack: int | None = None, **options: Any
    ) -> str:
        """The client's segment; returns the backend that gets it."""
        packet = self._segment((self.who.pod, self.port, self.who.service, 80), flags, options)
        packet["TCP"].seq = (self.client if seq is None else seq) % WRAP
        packet["TCP"].ack = ((self.server if ack is None else ack) if "A" in flags else 0) % WRAP
        result = self.lab.run("from_pod", packet)
        assert result.code == REDIRECT, result.counted
        return destination(result.packet)

    def answer(
        self, flags: str, seq: int | None = None, ack: int | None = None, **options: Any
    ) -> None:
        """The server's segment."""
        packet = self._segment((self.backend, 8080, self.who.pod, self.port), flags, options)
        packet["TCP"].seq = (self.server if seq is None else seq) % WRAP
        packet["TCP"].ack = ((self.client if ack is None else ack) if "A" in flags else 0) % WRAP
        hook = "from_pod" if self.backend == self.who.second_pod else "from_uplink"
        result = self.lab.run(hook, packet)
        assert result.code == REDIRECT, result.counted
        assert ports(result.packet) == (80, self.port)

    def _segment(self, ends: tuple[str, int, str, int], flags: str, options: Any) -> Any:
        return segment(self.who, ends, flags=flags, payload=options.get("payload", ""))

    def open(self, payload: str = "") -> Conversation:
        """The handshake."""
        self.backend = self.ask("S", payload=payload)
        self.client += 1 + len(payload)
        self.answer("SA")
        self.server += 1
        self.ask("A")
        return self

    def talk(self, request: str = "GET", response: str = "200 OK") -> Conversation:
        """A request and its response."""
        self.ask("PA", payload=request)
        self.client += len(request)
        self.answer("PA", payload=response)
        self.server += len(response)
        self.ask("A")
        return self

    def flow(self, direction: FlowDirection) -> layout.Flow:
        """Its entry."""
        flows = self.lab.flows().values()
        backend = parse_address(self.backend)
        if direction == FlowDirection.FORWARD:
            return next(f for f in flows if f.destination == backend)
        return next(f for key, f in self.lab.flows().items() if key.source == backend)

    @property
    def states(self) -> tuple[FlowState, FlowState]:
        """The state of the client's direction and that of the server's."""
        forward, reply = FlowDirection.FORWARD, FlowDirection.REPLY
        return FlowState(self.flow(forward).state), FlowState(self.flow(reply).state)

    @property
    def left_s(self) -> float:
        """Seconds that the connection lives without another packet."""
        least = min(self.flow(direction).expires_ns for direction in FlowDirection)
        return (least - time.monotonic_ns()) / SECOND_NS

    @property
    def lives(self) -> bool:
        """Tells whether both directions are established, and may be idle for long."""
        established = (FlowState.ESTABLISHED, FlowState.ESTABLISHED)
        return self.states == established and self.left_s > 7000
