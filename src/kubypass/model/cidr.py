# SPDX-License-Identifier: Apache-2.0
"""Networks: an address whose host bits are zero, and a prefix length of its family (0-32 or 0-128)."""

from __future__ import annotations

from dataclasses import dataclass

from kubypass.model.address import (
    Address,
    Family,
    family,
    format_address,
    is_ipv4,
    parse_address,
)


@dataclass(frozen=True, slots=True)
class Cidr:
    """A network. parse_cidr makes one and clears the host bits."""

    network: Address
    prefix: int

    @property
    def family(self) -> Family:
        """The address family: 4 or 6."""
        return family(self.network)

    @property
    def bits(self) -> int:
        """The prefix length of the 16-byte form: an IPv4 /24 has 120."""
        return self.prefix + (96 if is_ipv4(self.network) else 0)

    def contains(self, address: Address) -> bool:
        """Whether the address is in this network."""
        if family(address) != self.family:
            return False
        return mask(address, self.bits) == self.network

    def overlaps(self, other: Cidr) -> bool:
        """Whether some address is in both networks."""
        if self.prefix <= other.prefix:
            return self.contains(other.network)
        return other.contains(self.network)

    def __str__(self) -> str:
        return format_cidr(self)


def mask(address: Address, bits: int) -> Address:
    """Keep the first `bits` (0-128) of the 16-byte form."""
    low = 128 - bits
    return Address((int.from_bytes(address, "big") >> low << low).to_bytes(16, "big"))


def parse_cidr(text: str) -> Cidr:
    """Read `10.0.0.0/8` or `fd00::/64` and clear the host bits. ValueError says what is wrong with the text."""
    base, slash, length = text.strip().partition("/")
    if not slash:
        msg = f"{text!r} is not a CIDR: expected address/prefix, such as 10.0.0.0/8"
        raise ValueError(msg)
    address = parse_address(base)
    limit = 32 if is_ipv4(address) else 128
    if not (length.isascii() and length.isdigit()) or int(length) > limit:
        msg = f"{text!r} is not a CIDR: expected a prefix from 0 to {limit}"
        raise ValueError(msg)
    cidr = Cidr(address, int(length))
    return Cidr(mask(address, cidr.bits), cidr.prefix)


def host_cidr(address: Address) -> Cidr:
    """The network that has this address alone."""
    return Cidr(address, 32 if is_ipv4(address) else 128)


def format_cidr(cidr: Cidr) -> str:
    """The text, such as `10.0.0.0/8`."""
    return f"{format_address(cidr.network)}/{cidr.prefix}"
