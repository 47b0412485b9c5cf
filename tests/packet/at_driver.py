# SPDX-License-Identifier: Apache-2.0
"""A client's packets to a NodePort, and who has handled them: XDP, or from_uplink behind it."""

from __future__ import annotations

from typing import Any

from scapy.packet import Packet

from kubypass.model.verdict import Hook
from tests.packet.lab import Lab, Result
from tests.packet.packets import IN, Addresses, segment


def request(who: Addresses, **options: Any) -> Packet:
    """A client's packet to the NodePort."""
    return segment(who, (who.client, 40000, who.node, 30080), **{**IN, **options})


def by_driver(lab: Lab, packet: Packet | bytes) -> Result:
    """The packet's result, which has to be XDP's."""
    before = lab.counts()
    result = lab.run("from_uplink", packet)
    after = lab.counts()
    after.subtract(before)
    assert result.driver_code, result.counted
    assert {hook for hook, _ in +after} == {Hook.XDP}
    return result


def by_uplink(lab: Lab, packet: Packet | bytes) -> Result:
    """The packet's result, which has to be from_uplink's; `run` sees that XDP has neither changed nor counted it."""
    result = lab.run("from_uplink", packet)
    assert not result.driver_code
    assert {hook for hook, _ in result.counted} == {Hook.FROM_UPLINK}
    return result
