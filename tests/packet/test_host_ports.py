# SPDX-License-Identifier: Apache-2.0
"""Packets to ports of pods on their node, and who is kept out of a load balancer's address: whole packets."""

from __future__ import annotations

import pytest

from kubypass.model.verdict import Hook, LocalAddressKind, ServiceFlag, Verdict
from tests.packet.lab import SHOT, Lab
from tests.packet.packets import TO_NETWORK, TO_POD, Addresses, segment
from tests.packet.translation import follow, reply_flags

HOST_PORT = ServiceFlag.HOST_PORT
VIPS = {4: "198.51.100.2", 6: "2001:db8:51::2"}
OUTSIDE = {4: ("203.0.113.0/24", "192.0.2.0/24"), 6: ("2001:db8:cafe::/64", "2001:db8:1::/64")}
"""The network of the client, and one that it is not in."""


@pytest.mark.parametrize("kind", [LocalAddressKind.NODE, LocalAddressKind.NODE_PORTS])
def test_a_client_outside_is_not_hidden(
    lab: Lab, who: Addresses, protocol: str, kind: LocalAddressKind
) -> None:
    """A host port answers on an address where NodePorts do not, too."""
    lab.local_address(who.node, kind)
    lab.service(who.node, 8800, [who.pod], protocol=protocol, flags=HOST_PORT)
    request = (who.client, 40000, who.node, 8800)
    sent_on = (who.client, 40000, who.pod, 8080)
    follow(lab, who, "from_uplink", request, sent_on, TO_POD, protocol=protocol)
    answer, back = (who.pod, 8080, who.client, 40000), (who.node, 8800, who.client, 40000)
    follow(lab, who, "from_pod", answer, back, TO_NETWORK, **reply_flags(protocol))


def test_a_pod_of_the_node(lab: Lab, who: Addresses, protocol: str) -> None:
    lab.service(who.node, 8800, [who.second_pod], protocol=protocol, flags=HOST_PORT)
    request = (who.pod, 40000, who.node, 8800)
    sent_on = (who.pod, 40000, who.second_pod, 8080)
    follow(lab, who, "from_pod", request, sent_on, TO_POD, protocol=protocol)
    answer, back = (who.second_pod, 8080, who.pod, 40000), (who.node, 8800, who.pod, 40000)
    follow(lab, who, "from_pod", answer, back, TO_POD, **reply_flags(protocol))


def test_a_pod_that_dials_its_own_port_sees_the_node(
    lab: Lab, who: Addresses, protocol: str
) -> None:
    lab.service(who.node, 8800, [who.pod], protocol=protocol, flags=HOST_PORT)
    request, sent_on = (who.pod, 40000, who.node, 8800), (who.node, 40000, who.pod, 8080)
    follow(lab, who, "from_pod", request, sent_on, TO_POD, protocol=protocol)


@pytest.mark.parametrize("deny", [False, True], ids=["allow", "deny"])
@pytest.mark.parametrize("inside", [True, False], ids=["inside", "outside"])
def test_source_ranges(lab: Lab, who: Addresses, protocol: str, deny: bool, inside: bool) -> None:
    vip, network = VIPS[who.version], OUTSIDE[who.version][not inside]
    flags = ServiceFlag.LOAD_BALANCER | ServiceFlag.SOURCE_RANGES | ServiceFlag.LOCAL
    flags |= ServiceFlag.SOURCE_DENY if deny else 0
    lab.service(vip, 80, [], local=[who.pod], protocol=protocol, flags=flags)
    lab.source_range(vip, 80, network, protocol)
    request = (who.client, 40000, vip, 80)
    if inside is not deny:
        sent_on = (who.client, 40000, who.pod, 8080)
        follow(lab, who, "from_uplink", request, sent_on, TO_POD, protocol=protocol)
        return
    result = lab.run("from_uplink", segment(who, request, protocol=protocol))
    assert result.code == SHOT
    assert result.counted == {(Hook.FROM_UPLINK, Verdict.DROP_SOURCE_RANGE): 1}
    assert not lab.flows()
