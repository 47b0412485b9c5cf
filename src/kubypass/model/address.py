# SPDX-License-Identifier: Apache-2.0
"""Addresses: 16 bytes in network order, as in the maps.

IPv4 is `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2).
Text is read as Kubernetes reads it: leading zeros of an IPv4 octet are decimal, never octal. Zones
(`fe80::1%eth0`) are refused: they name an interface, not an address.
"""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Final, Literal, NewType

from kubypass.model.constants import FAMILY_IPV4, FAMILY_IPV6

if TYPE_CHECKING:
    from kubypass.model.protocol import Protocol

Address = NewType("Address", bytes)
AddressPort = tuple[Address, int]
"""An address with a port."""
Family = Literal[4, 6]

IPV4_PREFIX: Final = b"\0" * 10 + b"\xff\xff"
UNSPECIFIED: Final[dict[int, Address]] = {
    4: Address(IPV4_PREFIX + bytes(4)),
    6: Address(bytes(16)),
}
LOOPBACK: Final[dict[Family, Address]] = {
    4: Address(IPV4_PREFIX + b"\x7f\0\0\1"),
    6: Address(bytes(15) + b"\1"),
}

_DOTTED = re.compile(r"(?:[0-9]{1,9}\.){3}[0-9]{1,9}")
_MAX_OCTET = 255


def parse_address(text: str) -> Address:
    """Read an IPv4 or IPv6 address. ValueError says what is wrong with the text."""
    try:
        if ":" not in text:
            return Address(IPV4_PREFIX + socket.inet_pton(socket.AF_INET, text))
        return Address(socket.inet_pton(socket.AF_INET6, text))
    except (OSError, ValueError):
        pass
    head, colon, tail = text.rpartition(":")
    if not _DOTTED.fullmatch(tail):
        msg = f"{text!r} is not an IP address"
        raise ValueError(msg)
    octets = [int(octet) for octet in tail.split(".")]
    if max(octets) > _MAX_OCTET:
        msg = f"{text!r} is not an IP address: an octet is above 255"
        raise ValueError(msg)
    if not colon:
        return Address(IPV4_PREFIX + bytes(octets))
    try:
        dotted = ".".join(map(str, octets))
        return Address(socket.inet_pton(socket.AF_INET6, f"{head}:{dotted}"))
    except (OSError, ValueError):
        msg = f"{text!r} is not an IP address"
        raise ValueError(msg) from None


def is_ipv4(address: Address) -> bool:
    """Whether this is an IPv4 address."""
    return address[:12] == IPV4_PREFIX


def mapped_address(raw: bytes) -> Address:
    """The address that the kernel gives as 4 or 16 bytes in network order."""
    return Address(IPV4_PREFIX + raw if len(raw) == 4 else raw)


def family(address: Address) -> Family:
    """The address family: 4 or 6."""
    return 4 if address[:12] == IPV4_PREFIX else 6


def family_bit(version: Family) -> int:
    """The bit that stands for a family where the programs keep a set of families."""
    return FAMILY_IPV4 if version == 4 else FAMILY_IPV6


def is_loopback(address: Address) -> bool:
    """Whether the address is in 127.0.0.0/8, or is ::1. The unspecified addresses are not."""
    return address[:13] == IPV4_PREFIX + b"\x7f" or address == bytes(15) + b"\x01"


def link_local_address(mac: str) -> Address:
    """The IPv6 address that an interface gives itself by its MAC address (RFC 4291 appendix A)."""
    raw = bytes.fromhex(mac.replace(":", ""))
    interface = bytes((raw[0] ^ 2,)) + raw[1:3] + b"\xff\xfe" + raw[3:]
    return Address(socket.inet_pton(socket.AF_INET6, "fe80::")[:8] + interface)


def is_ipv6_link_local(address: Address) -> bool:
    """Whether the address is in fe80::/10 (RFC 4291 section 2.5.6).

    IPv4's 169.254.0.0/16 does not count: a node may be known by such an address.
    """
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80


def is_special(address: Address) -> bool:
    """Whether the address is unspecified, loopback or multicast: the network does not route these to one host."""
    multicast = address[12] & 0xF0 == 0xE0 if is_ipv4(address) else address[0] == 0xFF
    return address in UNSPECIFIED.values() or is_loopback(address) or multicast


def format_address(address: Address) -> str:
    """The canonical text: dotted for IPv4, RFC 5952 for IPv6."""
    if is_ipv4(address):
        return socket.inet_ntop(socket.AF_INET, address[12:])
    return socket.inet_ntop(socket.AF_INET6, address)


def in_brackets(host: str) -> str:
    """A host as it is written before a port and in URLs: IPv6 in brackets, `[::1]` (RFC 3986 section 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def format_address_port(address: Address, port: int, protocol: Protocol | None = None) -> str:
    """The text `1.2.3.4:80/TCP` or `[::1]:80/TCP`; without a protocol, `1.2.3.4:80`."""
    host = in_brackets(format_address(address))
    return f"{host}:{port}" if protocol is None else f"{host}:{port}/{protocol.name}"
