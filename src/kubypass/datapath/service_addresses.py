# SPDX-License-Identifier: Apache-2.0
"""Pure: the addresses that services have, for packets to a port that no service has.

Each address has one entry in `services`, at port 0 and protocol 0, as long as some frontend has the address.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from kubypass.datapath import layout
from kubypass.model.address import Address
from kubypass.model.verdict import ServiceFlag
from kubypass.plan.items import PlannedFrontend

_KINDS = ServiceFlag.CLUSTER_IP | ServiceFlag.EXTERNAL_IP | ServiceFlag.LOAD_BALANCER


class ServiceAddresses:
    """Counts the frontends of each kind that an address has."""

    def __init__(self) -> None:
        self._kinds: dict[Address, Counter[int]] = {}
        self._changed: set[Address] = set()

    def replace(self, old: Iterable[PlannedFrontend], new: Iterable[PlannedFrontend]) -> None:
        """Takes in that the frontends `old` are gone and `new` are there."""
        for frontend in new:
            if kinds := frontend.flags & _KINDS:
                self._kinds.setdefault(frontend.address, Counter())[kinds] += 1
                self._changed.add(frontend.address)
        for frontend in old:
            if kinds := frontend.flags & _KINDS:
                self._kinds[frontend.address][kinds] -= 1
                self._changed.add(frontend.address)

    def changed(self) -> dict[bytes, bytes | None]:
        """Returns entries that changed since the last call; None where no service has the address any more."""
        entries: dict[bytes, bytes | None] = {}
        for address in self._changed:
            counts = +self._kinds.pop(address)
            if counts:
                self._kinds[address] = counts
            entries[layout.TransportAddress(address, 0, 0).pack()] = (
                _value(counts) if counts else None
            )
        self._changed.clear()
        return entries


def _value(counts: Counter[int]) -> bytes:
    flags = int(ServiceFlag.ADDRESS)
    for kinds in counts:
        flags |= kinds
    return layout.Service(0, 0, 0, 0, flags, 0, 0, 0).pack()
