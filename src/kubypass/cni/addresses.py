# SPDX-License-Identifier: Apache-2.0
"""Which address the next pod gets. Pure.

Addresses go round: one that was given back is the last to be used again, so that packets of its former pod's peers
find nobody for as long as can be.
"""

from __future__ import annotations

from collections.abc import Collection

from kubypass.model.address import Address
from kubypass.model.cidr import Cidr


def _bounds(cidr: Cidr) -> tuple[int, int]:
    """First and last address for pods, as numbers; the first is above the last where there is none.

    Kept free: the network's own (in IPv6 the routers' anycast address, RFC 4291 2.6.1), the first, which is the
    gateway's by custom, and in IPv4 the broadcast address.
    """
    base = int.from_bytes(cidr.network, "big")
    last = base + (1 << (128 - cidr.bits)) - 1
    return base + 2, last - (1 if cidr.family == 4 else 0)


def capacity(cidr: Cidr) -> int:
    """How many pods the network has addresses for."""
    first, last = _bounds(cidr)
    return max(0, last - first + 1)


def next_address(
    cidr: Cidr, used: Collection[Address], after: Address | None = None
) -> Address | None:
    """The first address behind `after` that is not used, going round; None where all are."""
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
