# SPDX-License-Identifier: Apache-2.0
"""Keys of frontends: address, port and protocol in 19 bytes, of which a cluster has a hundred thousand.

A wildcard key has the unspecified address of its family: it stands for the port on every address of the node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubypass.model.address import UNSPECIFIED, Address, family, format_address_port
from kubypass.model.protocol import Protocol

if TYPE_CHECKING:
    from kubypass.plan.items import PlannedFrontend

FrontendKey = bytes
_ADDRESS_BYTES = 16


def frontend_key(frontend: PlannedFrontend) -> FrontendKey:
    """The key of a planned frontend."""
    return frontend.address + (frontend.port << 8 | frontend.protocol).to_bytes(3, "big")


def address_of(key: FrontendKey) -> Address:
    """The address of a key."""
    return Address(key[:_ADDRESS_BYTES])


def is_wildcard(key: FrontendKey) -> bool:
    """Whether the key stands for every address of the node."""
    return address_of(key) in UNSPECIFIED.values()


def wildcard_key(key: FrontendKey) -> FrontendKey:
    """The key of the same port on every address of the node."""
    return UNSPECIFIED[family(address_of(key))] + key[_ADDRESS_BYTES:]


def format_key(key: FrontendKey) -> str:
    """`ADDRESS:PORT/PROTOCOL`, or `node port PORT/PROTOCOL` for a wildcard key."""
    port, protocol = int.from_bytes(key[16:18]), Protocol(key[18])
    if is_wildcard(key):
        return f"node port {port}/{protocol.name}"
    return format_address_port(address_of(key), port, protocol)
