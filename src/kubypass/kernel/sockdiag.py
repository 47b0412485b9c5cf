# SPDX-License-Identifier: Apache-2.0
"""sock_diag(7): lists TCP and UDP sockets of the current network namespace, and closes sockets of other processes.

Addresses are 4 or 16 bytes in network order. The owner of a closed socket keeps its descriptor: its next call fails
with ECONNABORTED, and the socket is unconnected from then on.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from kubypass.kernel.netlink import Netlink
from kubypass.kernel.rtnetlink import ACK, DUMP

_NETLINK_SOCK_DIAG = 4
_BY_FAMILY, _DESTROY = 20, 21
_REQUEST = struct.Struct("=BBBxI48s")
_ANSWER = struct.Struct("=BBxx48s16xI")
_ADDRESS_PORTS = struct.Struct("!HH16s16s")
_COOKIE = struct.Struct("=Q")
ESTABLISHED, SYN_SENT, CLOSE, CLOSE_WAIT, LISTEN = 1, 2, 7, 8, 10
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


@dataclass(frozen=True, slots=True)
class Socket:
    """A socket as the kernel describes it."""

    family: int
    protocol: int
    cookie: int
    """The number that bpf_get_socket_cookie() returns; the kernel assigns it when somebody first asks."""
    address: bytes
    port: int
    peer: bytes
    peer_port: int
    inode: int
    """N of the link /proc/PID/fd/… -> socket:[N]; 0 for a socket that no process holds."""
    identity: bytes
    """The socket's struct inet_diag_sockid."""


class SockDiag:
    """A sock_diag socket. It sees the network namespace in which it was opened."""

    def __init__(self) -> None:
        self._netlink = Netlink(_NETLINK_SOCK_DIAG)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._netlink.close()

    def sockets(self, protocol: int, states: tuple[int, ...]) -> Iterator[Socket]:
        """Lists sockets of both families in these states. UDP sockets are ESTABLISHED if connected, else CLOSE."""
        mask = sum(1 << state for state in states)
        for family in _FAMILIES:
            request = _REQUEST.pack(family, protocol, 0, mask, bytes(48))
            for _, data in self._netlink.request(_BY_FAMILY, DUMP, request):
                yield _socket(protocol, data)

    def close_socket(self, found: Socket) -> bool:
        """Closes a socket (Linux 4.9 with CONFIG_INET_DIAG_DESTROY); False where the socket is gone."""
        request = _REQUEST.pack(found.family, found.protocol, 0, 0, found.identity)
        try:
            for _ in self._netlink.request(_DESTROY, ACK, request):
                pass
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):
                return False
            raise
        return True


def _socket(protocol: int, data: bytes) -> Socket:
    family, _, identity, inode = _ANSWER.unpack_from(data)
    port, peer_port, address, peer = _ADDRESS_PORTS.unpack_from(identity)
    size = 4 if family == socket.AF_INET else 16
    cookie: int = _COOKIE.unpack_from(identity, 40)[0]
    return Socket(
        family, protocol, cookie, address[:size], port, peer[:size], peer_port, inode, identity
    )


def can_close() -> bool:
    """Whether this kernel closes sockets of other processes; tried on a socket that does not exist."""
    nobody = Socket(socket.AF_INET, socket.IPPROTO_UDP, 0, b"", 0, b"", 0, 0, bytes(48))
    try:
        with SockDiag() as diag:
            diag.close_socket(nobody)
    except OSError:
        return False
    return True
