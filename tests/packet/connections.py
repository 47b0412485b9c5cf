# SPDX-License-Identifier: Apache-2.0
"""What the node remembers between packets, once more in plain Python: connections, and clients' affinities.

A packet's outcome is often one of several. `expect` says which are right, `learn` is told which it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tests.packet.known import Connection, Expected, Key, end_of
from tests.packet.raw import Ends
from tests.packet.reference import Cluster, Frontend
from tests.packet.reference_maglev import choose, number
from tests.packet.reference_objects import Backend, Endpoint, Item, ItemKey, version

SNAT_FIRST, NODE_PORT_RANGE = 1024, range(30000, 32768)


@dataclass
class Affinity:
    backend: Backend
    idle_s: int = 0


@dataclass
class Memory:
    """What is known of connections on one node."""

    cluster: Cluster
    connections: dict[Key, Connection] = field(default_factory=dict)
    replies: dict[Key, tuple[tuple[str, int], tuple[str, int]]] = field(default_factory=dict)
    """Whose they are: the client and what it dialled. Those of connections that are over count too."""
    affinities: dict[tuple[ItemKey, str], Affinity] = field(default_factory=dict)

    def forget(self) -> None:
        """All connections have expired."""
        self.connections.clear()
        self.replies.clear()

    def age(self, seconds: int) -> None:
        for affinity in self.affinities.values():
            affinity.idle_s += seconds

    def changed(self) -> None:
        """The objects are others."""
        items = self.cluster.items
        for connection in self.connections.values():
            if connection.item is None:
                continue
            item = items.get(connection.item)
            connection.orphan |= item is None
            connection.lost |= item is not None and not _serves(item.endpoints, connection.backend)
        for key, affinity in list(self.affinities.items()):
            item = items.get(key[0])
            if item is None or not item.affinity_s or affinity.backend not in self._reachable(item):
                del self.affinities[key]

    def _reachable(self, item: Item) -> set[Backend]:
        """Endpoints that some client may get; the affinity to another may be forgotten."""
        return item.cluster_list(self.cluster.node.name, self.cluster.zone) | item.local_list()

    def restarted(self) -> None:
        """The agent knows its services by their frontends: one that had none gets another identifier."""
        with_frontend = {key for _, key in self.cluster.frontends.values()}
        for connection in self.connections.values():
            connection.uncertain |= connection.item not in with_frontend
        for key in list(self.affinities):
            if key[0] not in with_frontend:
                del self.affinities[key]

    def expect(self, hook: str, packet: Ends, protocol: str, flags: str) -> Expected:
        """What may become of a packet that is no reply."""
        key = _key(packet, protocol)
        found = self._frontend(hook, packet, protocol)
        connection = self.connections.get(key)
        if connection:
            goes_on, anew = self._continues(connection, found, flags)
            in_vain = goes_on and connection.is_in_vain(flags)
            if goes_on and not anew and not in_vain:
                return self._follow(connection)
            expected = self._expect_new(hook, packet, protocol, flags, found)
            expected = replace(expected, in_vain=in_vain)
            if not goes_on or in_vain:
                return expected
            return replace(expected, may_follow=connection)
        return self._expect_new(hook, packet, protocol, flags, found)

    def _frontend(self, hook: str, packet: Ends, protocol: str) -> tuple[str, ItemKey] | None:
        frontend: Frontend = (packet.destination, packet.destination_port, protocol)
        if hook == "to_uplink":
            return self.cluster.frontends.get(frontend)
        return self.cluster.lookup(*frontend)

    def _follow(self, connection: Connection) -> Expected:
        backends = frozenset({connection.backend})
        return Expected("translated", backends, connection.item, False, connection)

    def _continues(
        self, connection: Connection, found: tuple[str, ItemKey] | None, flags: str
    ) -> tuple[bool, bool]:
        """Whether it may go on with its backend, and whether it may be judged again."""
        if connection.protocol == "SCTP":
            return True, False
        if connection.protocol == "TCP" and flags != "S":
            return True, False
        over = connection.direct and connection.state == "closed"
        gone = connection.lost or connection.orphan or over
        if connection.protocol == "TCP":
            return (not gone or connection.uncertain), gone or connection.uncertain
        if connection.item is None or not (gone or connection.uncertain):
            return True, False
        # Section 14; decision: where no endpoint is usable, the flow stays as it is.
        same = found is not None and found[1] == connection.item and not connection.orphan
        usable = same and self.cluster.items[connection.item].usable
        stays = same and not usable
        return stays or connection.uncertain, not stays or connection.uncertain

    def _expect_new(
        self,
        hook: str,
        packet: Ends,
        protocol: str,
        flags: str,
        found: tuple[str, ItemKey] | None,
    ) -> Expected:
        if hook == "to_uplink" and protocol == "TCP" and flags != "S":
            return Expected(
                "untouched"
            )  # the node's sockets have known their backend since the SYN
        if found is None:
            return self._expect_unserved(hook, packet, protocol, flags)
        judged = self.cluster.judge(hook, packet.source, found)
        if judged.kind != "backend":
            return Expected(judged.kind)
        backends = judged.backends
        affinity = self.affinities.get((found[1], packet.source))
        timeout = self.cluster.items[found[1]].affinity_s
        if affinity and affinity.backend in backends and affinity.idle_s < timeout:
            backends = frozenset({affinity.backend})
        elif found[0] != "cluster" and self.cluster.items[found[1]].maglev:
            backends = frozenset({self._by_table(found[1], backends, packet, protocol)})
        return Expected(
            "translated", backends, judged.item, judged.masquerade,
            by_pod=hook == "from_pod", direct=judged.direct,
        )  # fmt: skip

    def _by_table(
        self, key: ItemKey, backends: frozenset[Backend], packet: Ends, protocol: str
    ) -> Backend:
        """Maglev leaves nothing to chance."""
        node, item = self.cluster.node, self.cluster.items[key]
        chance = number(node.maglev_seed, packet, protocol, source_alone=item.affinity_s > 0)
        found = {where: item.endpoints[where].weight for where in backends}
        return choose(node.maglev_seed, node.maglev_cells, found, protocol, chance)

    def _expect_unserved(self, hook: str, packet: Ends, protocol: str, flags: str) -> Expected:
        new = flags == "S" or protocol != "TCP"
        me = ((packet.source, packet.source_port), (packet.destination, packet.destination_port))
        holder = self.replies.get(_back(packet, protocol))
        apart = new and holder is not None and holder != me
        if packet.destination in self.cluster.node.pods + self.cluster.node.addresses:
            return Expected("untouched", apart=apart)
        if protocol == "TCP" and flags != "S" and hook == "from_pod":
            return Expected("untouched")  # decision: it is of a connection that nothing is known of
        ports = protocol in {"TCP", "UDP", "SCTP"}
        kind = self.cluster.judge_unserved(hook, packet.destination, ports=ports).kind
        if (
            kind == "none"
            and hook == "from_pod"
            and self.cluster.node.is_outside(packet.destination)
        ):
            server = (packet.destination, packet.destination_port)
            return Expected("translated", frozenset({server}), masquerade=True)
        return Expected("untouched" if kind == "none" else kind, apart=apart)

    def check_source(self, expected: Expected, packet: Ends, seen: Ends, protocol: str) -> None:
        """The source address and port of a new translated connection are such that replies find back."""
        node = next(a for a in self.cluster.node.primary if version(a) == version(packet.source))
        hidden = expected.masquerade or seen.destination == packet.source
        hidden = hidden or (expected.by_pod and self.cluster.node.is_outside(seen.destination))
        hidden = hidden and seen.destination not in self.cluster.node.addresses
        assert seen.source == (node if hidden else packet.source), "masquerade"
        reply = (seen.destination, seen.destination_port, seen.source, seen.source_port, protocol)
        holder = self.replies.get(reply)
        me = ((packet.source, packet.source_port), (packet.destination, packet.destination_port))
        assert holder in {None, me}, f"source port {seen.source_port} is taken by {holder}"
        if seen.source_port == packet.source_port:
            return
        own = (*reply[:3], packet.source_port, protocol)
        assert hidden or self.replies.get(own) not in {None, me}, "another source port without need"
        port = seen.source_port
        assert port >= SNAT_FIRST, f"source port {port}"
        assert port not in NODE_PORT_RANGE, f"source port {port}"

    def note_direct(self, hook: str, packet: Ends, protocol: str) -> None:
        """A client outside knows the pod by its own address: what answers it keeps that, and has that entry."""
        node = self.cluster.node
        to_pod = hook == "from_uplink" and packet.destination in node.pods
        if to_pod and protocol != "TCP" and node.is_outside(packet.source):
            dialled = (packet.destination, packet.destination_port)
            me = ((packet.source, packet.source_port), dialled)
            self.replies.setdefault(_back(packet, protocol), me)

    def note_echo(self, source: str, destination: str, own: int, number: int) -> str:
        """A pod pings the outside, with this identifier in place of its own; returns the source that it gets."""
        node = next(a for a in self.cluster.node.primary if version(a) == version(source))
        me = ((source, own), (destination, 0))
        holder = self.replies.setdefault((destination, 0, node, number, "ICMP"), me)
        assert holder == me, f"identifier {number} is that of {holder}"
        assert number >= SNAT_FIRST, f"identifier {number}"
        assert number not in NODE_PORT_RANGE, f"identifier {number}"
        return node

    def resolve(self, expected: Expected, packet: Ends, seen: Ends) -> Expected:
        """What was to be expected, now that one sees whether the packet went on with its connection."""
        connection = expected.may_follow
        if connection is None:
            return expected
        if seen != Ends(*connection.source, *connection.backend):
            return replace(expected, may_follow=None)
        if expected.item:  # it may have been a new one that got the same
            self.affinities.pop((expected.item, packet.source), None)
        return self._follow(connection)

    def is_direct(self, expected: Expected, packet: Ends, seen: Ends, protocol: str) -> bool:
        """Whether a new connection is one of DSR: its backend is on a node that takes part, and its client on none."""
        node, backend = self.cluster.node, (seen.destination, seen.destination_port)
        if not expected.direct or expected.in_vain or node.is_peer(packet.source):
            return False
        me = ((packet.source, packet.source_port), (packet.destination, packet.destination_port))
        holder = self.replies.get((*backend, *me[0], protocol))
        return node.is_peer(seen.destination) and holder in {None, me}

    def learn(
        self,
        expected: Expected,
        hook: str,
        packet: Ends,
        seen: Ends,
        protocol: str,
        opened_by: str = "",
    ) -> None:
        """A packet was translated; one with the flags `opened_by` has opened a connection in DSR mode."""
        if expected.connection:
            return
        client = (packet.source, packet.source_port)
        dialled = (packet.destination, packet.destination_port)
        backend = (seen.destination, seen.destination_port)
        source = (seen.source, seen.source_port)
        made = Connection(client, dialled, protocol, backend, source, expected.item, hook)
        made.direct, made.end = bool(opened_by), end_of(opened_by)
        self.connections[_key(packet, protocol)] = made
        self.replies[made.reply] = (client, dialled)
        if expected.item and self.cluster.items[expected.item].affinity_s:
            self.affinities[expected.item, packet.source] = Affinity(backend)


def _serves(endpoints: dict[Backend, Endpoint], backend: Backend) -> bool:
    """Section 14: serving, whatever the policies say; ready implies it in a slice that makes sense."""
    found = endpoints.get(backend)
    return found is not None and (found.serving or found.ready)


def _key(packet: Ends, protocol: str) -> Key:
    client, dialled = (
        (packet.source, packet.source_port),
        (packet.destination, packet.destination_port),
    )
    return (*client, *dialled, protocol)


def _back(packet: Ends, protocol: str) -> Key:
    client, dialled = (
        (packet.source, packet.source_port),
        (packet.destination, packet.destination_port),
    )
    return (*dialled, *client, protocol)
