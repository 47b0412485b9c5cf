# SPDX-License-Identifier: Apache-2.0
"""Sockets that send and receive the probes of DSR: UDP datagrams with or without the option.

The option of a probe names no frontend (port 0), so that programs let it pass as it is.
"""

from __future__ import annotations

import socket
import struct
from typing import Final, NamedTuple

from kubypass.model.address import Address, Family, format_address

_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_PROBE: Final = 3
"""The kernel cuts no datagram, whatever MTU of the path it knows."""
_IP_RECVOPTS: Final = 6
_IPV6_RECVDSTOPTS, _IPV6_DSTOPTS = 58, 59
_OPTION: Final[dict[Family, bytes]] = {
    4: struct.pack("!BBHI", 0x9A, 8, 0, 0),
    6: struct.pack("!BBBB16sHH", 0, 2, 0x1B, 20, bytes(16), 0, 0),
}
_MARK: Final[dict[Family, bytes]] = {4: b"\x9a\x08", 6: b"\x1b\x14"}
HEADER_BYTES: Final[dict[Family, int]] = {4: 28, 6: 48}
"""The bytes of IP's and UDP's headers."""


class Received(NamedTuple):
    """A datagram."""

    data: bytes
    sender: str
    port: int
    with_option: bool


def open_socket(
    address: Address, version: Family, port: int = 0, *, with_option: bool = False
) -> socket.socket:
    """A socket at an address of the node; with `with_option`, the option is on what it sends."""
    kind = socket.AF_INET if version == 4 else socket.AF_INET6
    made = socket.socket(kind, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        made.setblocking(False)
        if version == 4:
            made.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
            made.setsockopt(socket.IPPROTO_IP, _IP_RECVOPTS, 1)
        else:
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVDSTOPTS, 1)
        if with_option and version == 4:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, _OPTION[4])
        elif with_option:
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_DSTOPTS, _OPTION[6])
        made.bind((format_address(address), port))
    except OSError:
        made.close()
        raise
    return made


def receive(from_socket: socket.socket, version: Family) -> Received | None:
    """The next datagram; None where there is none."""
    try:
        data, ancillary, _, sender = from_socket.recvmsg(65535, 1024)
    except BlockingIOError:
        return None
    except OSError:  # an ICMP error about an earlier one
        return None
    option = b"".join(
        value for _, kind, value in ancillary if kind in {_IP_RECVOPTS, _IPV6_DSTOPTS}
    )
    return Received(data, sender[0], sender[1], _MARK[version] in option)
