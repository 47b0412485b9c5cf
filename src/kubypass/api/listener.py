# SPDX-License-Identifier: Apache-2.0
"""The sockets on which the HTTP server listens: TCP ports, and unix sockets that only root may open."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from socket import socket as Socket  # noqa: N812  # the field has the module's name

from kubypass.api.connection import Client
from kubypass.api.routes import Routes

TcpAddress = tuple[str, int]
"""An IP address (not a name) and a port."""
ListenAddress = TcpAddress | Path
"""A TCP port, or the path of a unix socket that only root may open."""

_BACKLOG = 512
"""Connections that the kernel completes while the server is busy."""


@dataclass(slots=True, eq=False)
class Listener:
    """One open address."""

    address: ListenAddress
    socket: Socket
    routes: Routes
    _file: tuple[int, int] | None
    """Device and inode of a unix socket's file."""

    @classmethod
    def open(cls, address: ListenAddress, routes: Routes) -> Listener:
        """Listens; OSError where that fails. A unix socket's file is replaced."""
        made = _unix_socket(address) if isinstance(address, Path) else _tcp_socket(address)
        try:
            made.listen(_BACKLOG)
            made.setblocking(False)
            return cls(address, made, routes, _file_of(address))
        except OSError:
            made.close()
            raise

    @property
    def is_lost(self) -> bool:
        """Whether a unix socket's file is gone or another's, so that nobody finds this listener."""
        return self._file is not None and _file_of(self.address) != self._file

    def accept(self) -> tuple[Socket, Client]:
        """The next connection; BlockingIOError where none waits."""
        accepted, address = self.socket.accept()
        return accepted, Client.of(self.socket.family, address)

    def close(self) -> None:
        """Closes the socket, and removes its file unless it is another's."""
        self.socket.close()
        if isinstance(self.address, Path) and not self.is_lost:
            self.address.unlink(missing_ok=True)


def _file_of(address: ListenAddress) -> tuple[int, int] | None:
    if not isinstance(address, Path):
        return None
    try:
        found = os.lstat(address)
    except OSError:
        return (0, 0)
    return found.st_dev, found.st_ino


def _tcp_socket(address: TcpAddress) -> socket.socket:
    """An IPv6 address takes IPv6 only: IPv4 has a listener of its own."""
    made = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def _unix_socket(path: Path) -> socket.socket:
    """The socket does not listen yet, so nobody connects before its mode is set."""
    made = socket.socket(socket.AF_UNIX)
    try:
        path.unlink(missing_ok=True)
        made.bind(str(path))
        path.chmod(0o600)
    except OSError:
        made.close()
        raise
    return made
