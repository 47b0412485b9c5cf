# SPDX-License-Identifier: Apache-2.0
"""Plays a scenario, a list of steps, on the real programs and on the reference, and compares after each packet.

Steps are tuples, all data, so that a failing scenario can be cut down and printed:
put NAME OBJECT; delete NAME; packet HOOK SOURCE PORT DESTINATION PORT PROTOCOL FLAGS; again NUMBER FLAGS and
reply NUMBER FLAGS (of the connections there are, counted round); age SECONDS; forget; restart.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from kubypass.model.verdict import Verdict
from tests.packet.connections import Memory
from tests.packet.known import Connection, Expected
from tests.packet.lab import PASS, REDIRECT, SHOT
from tests.packet.pipeline import NOBODY, TO_NETWORK_MACS, TO_POD_MACS, Pipeline, Seen
from tests.packet.raw import (
    ICMP,
    ICMPV6,
    PROTOCOLS,
    Ends,
    Segment,
    check_unreachable,
    ends,
    identifier,
)
from tests.packet.reference import Cluster, Node

Step = tuple[Any, ...]
_REJECTS = {Verdict.REJECT_NO_BACKEND, Verdict.REJECT_NO_SERVICE}


@dataclass
class Player:
    """One scenario, as far as it was played."""

    pipeline: Pipeline
    cluster: Cluster
    memory: Memory
    counted: Counter[str] = field(default_factory=Counter)
    """Packets by outcome."""
    _stale: bool = False

    @classmethod
    def over(cls, pipeline: Pipeline, node: Node) -> Player:
        """An empty cluster."""
        cluster = Cluster(node)
        return cls(pipeline, cluster, Memory(cluster))

    def step(self, step: Step) -> None:
        """Plays one; AssertionError says where the two disagree."""
        getattr(self, f"_{step[0]}")(*step[1:])

    def _put(self, name: str, item: dict[str, Any]) -> None:
        self.cluster.objects[name] = item
        self.pipeline.put(name, item)
        self._stale = True

    def _delete(self, name: str) -> None:
        if self.cluster.objects.pop(name, None) is not None:
            self.pipeline.put(name, None)
            self._stale = True

    def _sync(self) -> None:
        if self._stale:
            self._stale = False
            self.pipeline.sync()
            self.cluster.derive()
            self.memory.changed()

    def _restart(self) -> None:
        self._sync()
        result = self.pipeline.restart()
        known = {key for _, key in self.cluster.frontends.values()}
        if known == self.cluster.items.keys():
            assert result.writes == 0, "a restart over unchanged objects writes nothing"
        self.memory.restarted()

    def _age(self, seconds: int) -> None:
        self._sync()
        self.pipeline.age(seconds)
        self.memory.age(seconds)

    def _forget(self) -> None:
        self.pipeline.lab.expire_flows()
        self.memory.forget()

    def _again(self, number: int, flags: str) -> None:
        connection = self._pick(number)
        if connection:
            dialled = (*connection.client, *connection.dialled)
            self._packet(connection.hook, *dialled, connection.protocol, flags)

    def _pick(self, number: int) -> Connection | None:
        known = list(self.memory.connections.values())
        return known[number % len(known)] if known else None

    def _packet(
        self,
        hook: str,
        source: str,
        source_port: int,
        destination: str,
        port: int,
        protocol: str,
        flags: str,
    ) -> None:
        self._sync()
        number = PROTOCOLS.get(protocol) or (ICMPV6 if ":" in source else ICMP)
        packet = Segment(source, source_port, destination, port, number, flags)
        if protocol == "ICMP":
            self._echo(hook, packet)
            return
        asked = Ends(source, source_port, destination, port)
        expected = self.memory.expect(hook, asked, protocol, flags)
        seen = self.pipeline.run(hook, packet.pack(), cut=expected.kind == "reject")
        if seen.verdict < Verdict.DROP:
            expected = self.memory.resolve(expected, asked, ends(seen.packet))
        self.counted[expected.kind] += 1
        self.counted["outside"] += expected.masquerade and expected.item is None
        try:
            self._compare(hook, packet, asked, expected, seen, protocol)
        except AssertionError as error:
            raise AssertionError(f"{error}\nexpected {expected}\nseen {_told(seen)}") from None

    def _compare(
        self,
        hook: str,
        packet: Segment,
        asked: Ends,
        expected: Expected,
        seen: Seen,
        protocol: str,
    ) -> None:
        if expected.kind == "reject":
            assert seen.verdict in _REJECTS, "reject"
            assert seen.code == REDIRECT
            check_unreachable(seen.packet, packet.pack())
        elif expected.kind.startswith("DROP"):
            self._compare_drop(expected, seen)
        elif expected.kind == "translated":
            got = ends(seen.packet)
            destination = (got.destination, got.destination_port)
            own = hook == "to_uplink" and got.destination in self.cluster.node.addresses
            if seen.verdict == Verdict.DROP_NO_ROUTE and own and protocol != "SCTP":
                # TCP and UDP that are on their way out are not turned back into the node; the flow is there.
                self.memory.learn(expected, hook, asked, got, protocol)
                return
            assert seen.verdict < Verdict.DROP, "translated"
            assert destination in expected.backends, f"{destination} is none of the backends"
            if self._compare_direct(hook, packet, asked, expected, seen):
                return
            if expected.connection:
                assert (got.source, got.source_port) == expected.connection.source
            else:
                hidden = expected.direct and not self._is_here(got.destination)
                hidden = hidden or expected.masquerade
                self.memory.check_source(replace(expected, masquerade=hidden), asked, got, protocol)
            self._check_forwarded(hook, packet, got, seen)
            self.memory.learn(expected, hook, asked, got, protocol)
        else:
            got = ends(seen.packet) if expected.apart else asked
            same = Ends(asked.source, got.source_port, asked.destination, asked.destination_port)
            self._check_forwarded(hook, packet, same, seen)
            if not expected.apart:
                self.memory.note_direct(hook, asked, protocol)
            if expected.apart:
                made = Expected("translated", masquerade=False)
                assert got.source_port != asked.source_port, "replies would be another connection's"
                self.memory.learn(made, hook, asked, got, protocol)

    def _compare_direct(
        self, hook: str, packet: Segment, asked: Ends, expected: Expected, seen: Seen
    ) -> bool:
        """Compares what another node answers in DSR mode; returns False where the node sees the answers itself."""
        got, known = ends(seen.packet), expected.connection
        protocol = {number: name for name, number in PROTOCOLS.items()}[packet.protocol]
        direct = known.direct if known else self.memory.is_direct(expected, asked, got, protocol)
        if not direct:
            return False
        names = known.take(packet.flags) if known else True
        made = packet.changed(
            destination=got.destination,
            destination_port=got.destination_port,
            macs=TO_NETWORK_MACS,
            ttl=packet.ttl - 1,
            named=(asked.destination, asked.destination_port) if names else None,
        )
        assert (seen.verdict, seen.code) == (Verdict.DSR, REDIRECT), "DSR was expected"
        assert seen.packet == made.pack(), f"the packet is not\n{made}"
        self.memory.learn(expected, hook, asked, got, protocol, opened_by=packet.flags)
        self.counted["direct"] += 1
        return True

    def _is_here(self, address: str) -> bool:
        return address in self.cluster.node.pods + self.cluster.node.addresses

    def _compare_drop(self, expected: Expected, seen: Seen) -> None:
        assert (seen.verdict.name, seen.code) == (expected.kind, SHOT), "drop"

    def _check_forwarded(self, hook: str, packet: Segment, now: Ends, seen: Seen) -> None:
        """The whole packet, with these ends, and where it goes."""
        made = packet.changed(
            source=now.source,
            source_port=now.source_port,
            destination=now.destination,
            destination_port=now.destination_port,
        )
        node, before = self.cluster.node, packet.pack()
        moved = made.destination != packet.destination
        translated = made.pack() != before
        hop = 0 if hook in {"to_uplink", "to_pod"} else 1
        stays = hook in {"to_uplink", "to_pod"} and not moved
        if hook == "to_uplink" and moved and made.destination in node.addresses:
            verdict, code = Verdict.PASS, REDIRECT  # SCTP comes back by the loopback device
            made = made.changed(macs=(NOBODY, NOBODY))
        elif stays or made.destination in node.addresses:
            verdict, code = Verdict.PASS, PASS
        elif made.destination in node.pods:
            verdict, code = Verdict.TO_POD, REDIRECT
            made = made.changed(macs=TO_POD_MACS, ttl=packet.ttl - hop)
        elif hook == "from_uplink" and not translated:
            verdict, code = Verdict.PASS, PASS
        else:
            verdict, code = Verdict.TO_NETWORK, REDIRECT
            made = made.changed(macs=TO_NETWORK_MACS, ttl=packet.ttl - hop)
        assert (seen.verdict, seen.code) == (verdict, code), f"{verdict.name} was expected"
        assert seen.packet == made.pack(), f"the packet is not\n{made}"

    def _echo(self, hook: str, packet: Segment) -> None:
        """No ports: by addresses alone."""
        node = self.cluster.node
        seen = self.pipeline.run(hook, packet.pack())
        self.counted["echo"] += 1
        here = packet.destination in node.pods + node.addresses
        kind = "none"
        if not here:
            kind = self.cluster.judge_unserved(hook, packet.destination, ports=False).kind
        if kind != "none":
            assert (seen.verdict.name, seen.code) == (kind, SHOT), f"{kind}, not {_told(seen)}"
            return
        source, sent = packet.source, packet.changed(source_port=0, destination_port=0)
        if hook == "from_pod" and not here and node.is_outside(packet.destination):
            number = identifier(seen.packet)
            source = self.memory.note_echo(
                packet.source, packet.destination, sent.identifier, number
            )
            sent = sent.changed(identifier=number)
            self.counted["ping outside"] += 1
        self._check_forwarded(hook, sent, Ends(source, 0, packet.destination, 0), seen)

    def _reply(self, number: int, flags: str) -> None:
        """A packet from the backend of a connection comes back as from what was dialled."""
        connection = self._pick(number)
        if connection is None:
            return
        self._sync()
        node, backend = self.cluster.node, connection.backend
        from_node = connection.hook == "to_uplink"
        hook = "from_uplink"
        if backend[0] in node.pods:
            hook = "from_pod"
        elif backend[0] in node.addresses:
            hook = "to_pod" if connection.client[0] in node.pods else "to_uplink"
        protocol = PROTOCOLS[connection.protocol]
        packet = Segment(*backend, *connection.source, protocol, flags)
        seen = self.pipeline.run(hook, packet.pack())
        self.counted["reply"] += 1
        now = Ends(*connection.dialled, *connection.client)
        if from_node and connection.client[0] not in node.addresses:
            return  # an address that the node has only for the length of this connection
        try:
            self._check_forwarded(hook, packet, now, seen)
        except AssertionError as error:
            raise AssertionError(f"reply of {connection}: {error}\nseen {_told(seen)}") from None


def _told(seen: Seen) -> str:
    return f"{seen.verdict.name} code {seen.code} {ends(seen.packet)} {seen.packet.hex()}"
