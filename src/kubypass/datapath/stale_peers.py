# SPDX-License-Identifier: Apache-2.0
"""Which sockets talk to a backend that is gone, by what `socket_peers` says of them.

kube-proxy's rule for stale UDP: the backend is not among the serving ones of the service that was asked, and that
service has others. Sockets that dialled the backend's own address are not in the map.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

from kubypass.datapath import layout
from kubypass.datapath.tables import Changes
from kubypass.kernel.bpf import Map
from kubypass.model.address import UNSPECIFIED, Address, family
from kubypass.model.verdict import ServiceFlag

_COOKIE_SIZE = 8
_CHUNK = 4096
_MANY = 512
"""So many backends are found faster in a copy of the whole map."""


@dataclass(frozen=True, slots=True)
class StalePeer:
    """One socket, and the backend that it was given."""

    cookie: int
    address: Address
    port: int
    protocol: int
    key: bytes
    """Of its entry in `socket_peers`."""


class StalePeers:
    """Backends that went, until the sockets that talk to them were looked for."""

    def __init__(self, maps: dict[str, Map], protocols: Container[int]) -> None:
        self._maps = maps
        self._protocols = protocols
        self._gone: dict[bytes, set[int]] = {}
        """The end of a key of `socket_peers` -> identifiers of services that have lost this backend."""

    def __bool__(self) -> bool:
        return bool(self._gone)

    def note(self, changes: Changes) -> None:
        """Takes in what is about to be written: the map still has what goes."""
        for backend in self._removed(changes.removed_backends):
            if backend.protocol in self._protocols:
                self._gone.setdefault(_place(backend), set()).add(backend.service)
        for raw in changes.backends.values() if self._gone else ():
            backend = layout.Backend.unpack(raw)
            self._gone.get(_place(backend), set()).discard(backend.service)

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
        """One pass over the map, a chunk each time; what is noted meanwhile is for the next pass."""
        gone, self._gone = self._gone, {}
        key_size, value_size = layout.SOCKET_PEER_SIZE, layout.SOCKET_SERVICE_SIZE
        for keys, values, count in self._maps["socket_peers"].chunks(_CHUNK):
            found = []
            for at in range(count):
                key = keys[at * key_size : (at + 1) * key_size]
                services = gone.get(key[_COOKIE_SIZE:])
                if services and self._is_stale(
                    key, values[at * value_size : (at + 1) * value_size], services
                ):
                    peer = layout.SocketPeer.unpack(key)
                    place = (Address(peer.address), peer.port, peer.protocol)
                    found.append(StalePeer(peer.cookie, *place, key))
            yield found

    def forget(self, peers: list[StalePeer]) -> None:
        """Their sockets are closed: the entries go."""
        self._maps["socket_peers"].delete_batch(b"".join(peer.key for peer in peers), len(peers))

    def _is_stale(self, key: bytes, raw: bytes, services: set[int]) -> bool:
        """Whether the service that the socket asked for is one of these, and has other endpoints."""
        asked = layout.SocketService.unpack(raw)
        protocol = layout.SocketPeer.unpack(key).protocol
        for address in (asked.address, UNSPECIFIED[family(Address(asked.address))]):
            frontend = layout.Frontend(address, asked.port, protocol).pack()
            value = self._maps["services"].lookup(frontend)
            if value is not None:
                service = layout.Service.unpack(value)
                has_others = service.backends or service.flags & ServiceFlag.HAS_ENDPOINTS
                return service.id in services and bool(has_others)
        return False


def _place(backend: layout.Backend) -> bytes:
    peer = layout.SocketPeer(0, backend.address, backend.port, backend.protocol)
    return peer.pack()[_COOKIE_SIZE:]
