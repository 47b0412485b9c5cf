# SPDX-License-Identifier: Apache-2.0
"""Fields that objects of several kinds have: addresses, ports and protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubypass.model.address import Address, Family, parse_address
from kubypass.model.protocol import Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_PORT = 65535
PROTOCOLS: dict[str | None, Protocol] = {
    None: Protocol.TCP,
    "": Protocol.TCP,
    **{protocol.name: protocol for protocol in Protocol},
}
FAMILIES: dict[str, Family] = {"IPv4": 4, "IPv6": 6}


def read_addresses(field: str, texts: Iterable[str], notes: list[str]) -> tuple[Address, ...]:
    """The readable addresses, without repetitions, in order."""
    found: dict[Address, None] = {}
    for text in texts:
        try:
            found[parse_address(text)] = None
        except ValueError:
            notes.append(f"{field} has {text!r}; expected an IP address; left out")
    return tuple(found)
