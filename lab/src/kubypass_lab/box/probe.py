# SPDX-License-Identifier: Apache-2.0
"""Observes pods: whether a port answers, whether connections are open, whether a link exists."""

from __future__ import annotations

import socket
from pathlib import Path

from kubypass.kernel import netns
from kubypass_lab.box.objects import ContainerPort
from kubypass_lab.box.patience import SHORT_S

_ESTABLISHED = "01"  # include/net/tcp_states.h


def answers(address: str, port: ContainerPort, *, http: bool) -> bool:
    """Whether a port answers HTTP, TCP or UDP now. SCTP ports are not probed."""
    if port.protocol == "SCTP":
        return True
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if port.protocol == "TCP" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as client:
        client.settimeout(SHORT_S)
        try:
            client.connect((address, port.container_port))
            if port.protocol == "TCP" and not http:
                return True
            client.sendall(b"GET / HTTP/1.0\r\n\r\n" if port.protocol == "TCP" else b"ready?\n")
            return bool(client.recv(16))
        except OSError:
            return False


def has_connections(pid: int) -> bool:
    """Whether any TCP connection is established in the network namespace of a process."""
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
        except (FileNotFoundError, ProcessLookupError, OSError):
            continue
        if any(line.split()[3] == _ESTABLISHED for line in lines):
            return True
    return False


def has_interface(namespace: Path, interface: str) -> bool:
    """Whether a namespace has an interface of this name."""
    with netns.inside(namespace):
        return any(name == interface for _, name in socket.if_nameindex())
