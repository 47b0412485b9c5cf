# SPDX-License-Identifier: Apache-2.0
"""Chooses the address that the next pod gets. Pure.

Addresses are used in turn. A released address is the last one to be used again, because peers of its previous pod may
still send to it.
"""

from __future__ import annotations

from collections.abc import Collection

from kubypass.model.address import Address
from kubypass.model.cidr import Cidr


def _bounds(cidr: Cidr) -> tuple[int, int]:
    """The first and last address for pods, as numbers. The first is above the last where there is none.

    Three addresses stay free: the network's own (in IPv6 the routers' anycast address, RFC 4291 section 2.6.1), the
    first one, which is the gateway's by custom, and IPv4's broadcast address.
    """
    base = int.from_bytes(cidr.network, "big")
    last = base + (1 << (128 - cidr.bits)) - 1
    return base + 2, last - (1 if cidr.family == 4 else 0)


def capacity(cidr: Cidr) -> int:
    """The number of pods that the network has addresses for."""
    first, last = _bounds(cidr)
    return max(0, last - first + 1)


def next_address(
    cidr: Cidr, used: Collection[Address], after: Address | None = None
) -> Address | None:
    """Returns the first free address behind `after`, starting over at the end; None where all are used."""
    first, last = _bounds(cidr)
    start = int.from_bytes(after, "big") + 1 if after else first
    if not first <= start <= last:
        start = first
    for step in range(min(capacity(cidr), len(used) + 1)):
        number = first + (start - first + step) % (last - first + 1)
        found = Address(number.to_bytes(16, "big"))
        if found not in used:
            return found
    return None
