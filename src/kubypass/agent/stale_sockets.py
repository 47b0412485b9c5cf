# SPDX-License-Identifier: Apache-2.0
"""Closes sockets whose backend is gone, in every network namespace of the node, step by step.

A connected UDP socket keeps the backend that it was given when it connected: nothing would ever move it. Once it is
closed, its owner gets an error, connects again and is given another backend. Nothing is done while no backend goes.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from kubypass.agent.log import log
from kubypass.datapath.changes import Changes
from kubypass.datapath.stale_peers import StalePeer, StalePeers
from kubypass.errors import KernelError
from kubypass.kernel import netns, sockdiag
from kubypass.kernel.bpf import Map
from kubypass.kernel.processes import cgroup_processes, namespace_path, network_namespaces
from kubypass.kernel.sockdiag import SockDiag
from kubypass.model.address import Address, mapped_address
from kubypass.model.protocol import Protocol
from kubypass.settings.settings import Settings

_SETTLE_S = 0.05
"""After this time, calls that began before a backend went have recorded the backend that they were given."""
_HERE = "/proc/thread-self/ns/net"
_STATES = {
    Protocol.UDP: (sockdiag.ESTABLISHED,),
    Protocol.TCP: (sockdiag.ESTABLISHED, sockdiag.SYN_SENT, sockdiag.CLOSE_WAIT),
}
_Peer = tuple[int, Address, int]


def protocols_to_close(settings: Settings, *, possible: bool) -> tuple[Protocol, ...]:
    """The protocols whose sockets are closed; none where the kernel cannot close sockets."""
    if not possible or not (settings.services.with_external or settings.socket_lb):
        return ()
    both = settings.sockets.close_all_protocols
    return (Protocol.UDP, Protocol.TCP) if both else (Protocol.UDP,)


class StaleSockets:
    """The owner passes changes to `note`, and calls `step` once `due` has come."""

    def __init__(
        self, settings: Settings, cgroup: Path, maps: dict[str, Map], *, possible: bool
    ) -> None:
        self.protocols = protocols_to_close(settings, possible=possible)
        self._pods_too = settings.sockets.close_in_pods
        self._cgroup = cgroup
        self._peers = StalePeers(maps, self.protocols)
        self._work: Iterator[None] = iter(())
        self._working = False
        self.due = math.inf
        """When the next step is due; CLOCK_MONOTONIC in seconds, infinity while there is no work."""
        self.closed: Counter[Protocol] = Counter()

    def note(self, changes: Changes) -> None:
        """Remembers the backends that the changes are about to remove."""
        if not self.protocols or not changes.removed_backends:
            return
        self._peers.note(changes)
        if self._peers:  # a pass over the whole map is expensive
            self.due = min(self.due, time.monotonic() + _SETTLE_S)

    def step(self) -> None:
        """Does one bounded part of the work."""
        if not self._working:
            self._work, self._working = self._close_all(), True
        for _ in self._work:
            self.due = time.monotonic()
            return
        self._working = False
        self.due = time.monotonic() + _SETTLE_S if self._peers else math.inf

    def _close_all(self) -> Iterator[None]:
        stale: list[StalePeer] = []
        for found in self._peers.find():
            stale += found
            yield
        if not stale:
            return
        wanted = {(peer.cookie, peer.address, peer.port): peer for peer in stale}
        done: Counter[Protocol] = Counter()
        for namespace in network_namespaces(self._namespace_paths()):
            try:
                closed = self._close_in(namespace, wanted)
            except (OSError, KernelError) as error:
                log("sockets of a namespace stay as they are", "WARNING", reason=error)
                closed = []
            self._peers.forget(closed)
            done.update(Protocol(peer.protocol) for peer in closed)
            yield
        self.closed += done
        for protocol, count in done.items():
            log("sockets closed: their backend is gone", protocol=protocol.name, sockets=count)

    def _namespace_paths(self) -> Iterable[str]:
        """Paths of the network namespaces whose sockets may have been given a backend."""
        yield _HERE
        if self._pods_too:
            yield from map(namespace_path, cgroup_processes(self._cgroup))

    def _close_in(self, namespace: int, wanted: dict[_Peer, StalePeer]) -> list[StalePeer]:
        closed = []
        with netns.inside(namespace), SockDiag() as diag:
            for protocol in self.protocols:
                for found in list(diag.sockets(protocol, _STATES[protocol])):
                    peer = wanted.get((found.cookie, mapped_address(found.peer), found.peer_port))
                    if peer and peer.protocol == protocol and diag.close_socket(found):
                        closed.append(peer)
        return closed
