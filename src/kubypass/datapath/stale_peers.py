# SPDX-License-Identifier: Apache-2.0
"""Finds sockets whose backend is gone, from what `socket_peers` says of them.

A socket is stale by kube-proxy's rule for UDP: its backend is not among the serving ones of the service that it asked
for, and that service has others. Sockets that connected to the backend's own address are not in the map.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

from kubypass.datapath import layout
from kubypass.datapath.changes import Changes
from kubypass.kernel.bpf import Map
from kubypass.model.address import UNSPECIFIED, Address, family
from kubypass.model.verdict import ServiceFlag

_CHUNK = 4096
_MANY = 512
"""From this number on, backends are found faster in a copy of the whole map."""


@dataclass(frozen=True, slots=True)
class StalePeer:
    """One socket, and the backend that it was given."""

    cookie: int
    address: Address
    port: int
    protocol: int
    key: bytes
    """Key of its entry in `socket_peers`."""


class StalePeers:
    """Backends that were removed, until `find` has looked for the sockets that talk to them."""

    def __init__(self, maps: dict[str, Map], protocols: Container[int]) -> None:
        self._maps = maps
        self._protocols = protocols
        self._gone: dict[bytes, set[int]] = {}
        """A backend as the end of a key of `socket_peers` -> identifiers of services that have lost it."""

    def __bool__(self) -> bool:
        return bool(self._gone)

    def note(self, changes: Changes) -> None:
        """Takes in changes before they are written, while the map still has the backends that they remove."""
        for backend in self._removed(changes.removed_backends):
            if backend.protocol in self._protocols:
                self._gone.setdefault(_peer(backend), set()).add(backend.service)
        for raw in changes.backends.values() if self._gone else ():
            backend = layout.Backend.unpack(raw)
            self._gone.get(_peer(backend), set()).discard(backend.service)

    def _removed(self, numbers: list[int]) -> Iterator[layout.Backend]:
        backends = self._maps["backends"]
        if len(numbers) > _MANY:
            size = layout.BACKEND_SIZE
            raw = b"".join(values for _, values, _ in backends.chunks(65536))
            found = (raw[number * size : (number + 1) * size] for number in numbers)
        else:
            found = (backends.lookup(number.to_bytes(4, "little")) or b"" for number in numbers)
        yield from (layout.Backend.unpack(each) for each in found if any(each))

    def find(self) -> Iterator[list[StalePeer]]:
        """Yields the stale sockets of each chunk of the map. What is noted meanwhile is for the next call."""
        gone, self._gone = self._gone, {}
        key_size, value_size = layout.SOCKET_PEER_SIZE, layout.TRANSPORT_ADDRESS_SIZE
        for keys, values, count in self._maps["socket_peers"].chunks(_CHUNK):
            found = []
            for at in range(count):
                key = keys[at * key_size : (at + 1) * key_size]
                services = gone.get(key[layout.SOCKET_PEER_ADDRESS_AT :])
                if services and self._is_stale(
                    key, values[at * value_size : (at + 1) * value_size], services
                ):
                    peer = layout.SocketPeer.unpack(key)
                    address = Address(peer.address)
                    found.append(StalePeer(peer.cookie, address, peer.port, peer.protocol, key))
            yield found

    def forget(self, peers: list[StalePeer]) -> None:
        """Removes the entries of sockets that are closed now."""
        self._maps["socket_peers"].delete_batch(b"".join(peer.key for peer in peers), len(peers))

    def _is_stale(self, key: bytes, raw: bytes, services: set[int]) -> bool:
        """Tells whether the service that the socket asked for is one of these and has other endpoints."""
        asked = layout.TransportAddress.unpack(raw)
        protocol = layout.SocketPeer.unpack(key).protocol
        for address in (asked.address, UNSPECIFIED[family(Address(asked.address))]):
            frontend = layout.TransportAddress(address, asked.port, protocol).pack()
            value = self._maps["services"].lookup(frontend)
            if value is not None:
                service = layout.Service.unpack(value)
                has_others = service.backends or service.flags & ServiceFlag.HAS_ENDPOINTS
                return service.id in services and bool(has_others)
        return False


def _peer(backend: layout.Backend) -> bytes:
    """The end of a key of `socket_peers`: address, port and protocol."""
    peer = layout.SocketPeer(0, backend.address, backend.port, backend.protocol)
    return peer.pack()[layout.SOCKET_PEER_ADDRESS_AT :]
