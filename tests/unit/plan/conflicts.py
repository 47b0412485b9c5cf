# SPDX-License-Identifier: Apache-2.0
"""Plans of services, and of pods, that ask for the same frontends."""

from __future__ import annotations

from kubypass.model.address import UNSPECIFIED, parse_address
from kubypass.model.protocol import Protocol
from kubypass.plan.conflicts import Precedence, Rank
from kubypass.plan.items import Item, ItemKey, PlannedFrontend, ServicePlan

TCP = Protocol.TCP


def plan(name: str, *ports: int, address: str = "10.0.0.1", flags: int = 1) -> ServicePlan:
    """A service with an item for each port."""
    key = UNSPECIFIED[4] if address == "node" else parse_address(address)
    return ServicePlan(
        tuple(
            Item(
                ItemKey("default", name, str(n), TCP, 4),
                (PlannedFrontend(key, port, TCP, flags),),
                (),
            )
            for n, port in enumerate(ports)
        )
    )


def key(name: str) -> tuple[str, str]:
    return ("default", name)


def ports(found: ServicePlan) -> list[int]:
    return [frontend.port for item in found.items for frontend in item.frontends]


POD = Rank("", Precedence.POD)
ENDING_POD = Rank("", Precedence.TERMINATING_POD)
NODE_ADDRESS = "192.0.2.1"
