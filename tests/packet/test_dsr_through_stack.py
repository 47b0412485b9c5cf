# SPDX-License-Identifier: Apache-2.0
"""DSR with legacy host routing: the node that has the backend gives its stack client and pod, both ways."""

from __future__ import annotations

import pytest

from kubypass.model.verdict import ServiceFlag
from tests.packet.dsr import PORT, TARGET, peers, told
from tests.packet.lab import REDIRECT, Lab
from tests.packet.legacy import LEGACY, passes, run
from tests.packet.packets import IN, TO_NETWORK, Addresses, segment
from tests.packet.snat import empty, tuple_of

CLIENT = 40000


@pytest.fixture
def legacy(netns: str) -> Lab:
    lab = empty(netns, dsr=1, **LEGACY)
    peers(lab)
    return lab


def test_the_node_that_balances_sends_by_itself(legacy: Lab, who: Addresses, protocol: str) -> None:
    """Its stack would see one direction only: connection tracking would have no use of that."""
    flags = ServiceFlag.NODE_PORT | ServiceFlag.DSR
    legacy.service(who.node, PORT, [who.remote_pod], protocol=protocol, flags=flags, target=TARGET)
    sent = segment(who, (who.client, CLIENT, who.node, PORT), protocol=protocol, **IN)
    there = (who.client, CLIENT, who.remote_pod, TARGET)
    for _ in range(2):
        left = run(legacy, "from_uplink", sent)
        wanted = told(who, there, (who.node, PORT), TO_NETWORK, protocol=protocol)
        assert (left.code, left.packet) == (REDIRECT, bytes(wanted))


def test_the_backends_node_sees_client_and_pod(legacy: Lab, who: Addresses, protocol: str) -> None:
    flags = ServiceFlag.LOAD_BALANCER | ServiceFlag.DSR
    legacy.service(who.service, 80, [who.pod], protocol=protocol, flags=flags, target=TARGET)
    there, to = (who.client, CLIENT, who.pod, TARGET), (who.service, 80)
    arrives = segment(who, there, protocol=protocol, **IN)
    for _ in range(2):
        asks = told(who, there, to, protocol=protocol)
        passes(legacy, ("from_uplink", "to_pod"), asks, arrives, arrives)
    answer = {"protocol": protocol, "flags": "SA", "seq": 7, "ack": 106}
    back = segment(who, (who.pod, TARGET, who.client, CLIENT), **answer, **IN)
    seen = segment(who, (*to, who.client, CLIENT), **answer, **IN)
    passes(legacy, ("from_pod", "to_uplink"), back, back, seen)


def test_datagrams_with_another_port(legacy: Lab, who: Addresses) -> None:
    """The second of two frontends: stack and pod see another port of the client, there and back."""
    flags = ServiceFlag.LOAD_BALANCER | ServiceFlag.DSR
    for number in (80, 81):
        legacy.service(who.service, number, [who.pod], protocol="UDP", flags=flags, target=TARGET)
    there = (who.client, CLIENT, who.pod, TARGET)
    run(legacy, "from_uplink", told(who, there, (who.service, 80), protocol="UDP"))
    arrived = run(legacy, "from_uplink", told(who, there, (who.service, 81), protocol="UDP"))
    port = tuple_of(arrived.packet)[1]
    assert port != CLIENT
    there = (who.client, port, who.pod, TARGET)
    assert arrived.packet == bytes(segment(who, there, protocol="UDP", **IN))
    gone = run(legacy, "to_pod", arrived.packet, arrived.note)
    assert tuple_of(gone.packet) == there
    back = segment(who, (who.pod, TARGET, who.client, port), protocol="UDP", **IN)
    first = run(legacy, "from_pod", back)
    assert first.packet == bytes(back)
    last = run(legacy, "to_uplink", first.packet, first.note)
    seen = segment(who, (who.service, 81, who.client, CLIENT), protocol="UDP", **IN)
    assert last.packet == bytes(seen)
