# SPDX-License-Identifier: Apache-2.0
"""One of a connection's two entries may be evicted, or lose its port: no client waits for answers that cannot come."""

from __future__ import annotations

import pytest

from kubypass.datapath import layout
from kubypass.datapath.sizes import FLOW_MAPS
from kubypass.model.verdict import FlowDirection
from tests.packet.lab import Lab
from tests.packet.packets import Addresses
from tests.packet.segments import SECOND_NS
from tests.packet.snat import answer, ask, clients, connect, made


def age(lab: Lab, seconds: float) -> None:
    """Time passes for all connections that have not ended."""
    for key, flow in lab.flows().items():
        if flow.expires_ns:
            until = flow.expires_ns - int(seconds * SECOND_NS)
            lab.put_flow(key, flow._replace(expires_ns=until))


def replies(lab: Lab) -> list[layout.Tuple]:
    return [key for key, flow in lab.flows().items() if flow.direction == FlowDirection.REPLY]


def evict_replies(lab: Lab) -> None:
    for key in replies(lab):
        for name in FLOW_MAPS:
            lab.maps[name].delete_batch(key.pack(), 1)


@pytest.mark.parametrize("flags", ["S", "A"])
def test_the_next_packet_opens_the_connection_again(
    netns: str, who: Addresses, protocol: str, flags: str
) -> None:
    lab = made(netns, who, protocol=protocol)
    client = (clients(who, 1)[0], 40000)
    assert ask(lab, who, client, protocol=protocol) == 40000
    evict_replies(lab)
    age(lab, 2)
    assert ask(lab, who, client, protocol=protocol, flags=flags) == 40000
    assert answer(lab, who, 40000, protocol=protocol, flags="SA") == client


def test_so_does_that_of_a_confirmed_connection(netns: str, who: Addresses) -> None:
    lab = made(netns, who)
    client = (clients(who, 1)[0], 40000)
    assert connect(lab, who, client) == 40000
    evict_replies(lab)
    age(lab, 2)
    assert ask(lab, who, client, flags="A", payload="", seq=101, ack=701) == 40000
    assert answer(lab, who, 40000, flags="A", payload="", seq=701, ack=101) == client


def test_a_port_that_gave_way_is_used_no_more(netns: str, who: Addresses, protocol: str) -> None:
    """Answers on it are for the client that has it now."""
    lab = made(netns, who, protocol=protocol, snat_port_first=61000, snat_ports=1)
    first, second, third = ((host, 40000) for host in clients(who, 3))
    assert ask(lab, who, first, protocol=protocol) == 40000
    assert ask(lab, who, second, protocol=protocol) == 61000
    age(lab, 2)
    assert ask(lab, who, third, protocol=protocol) == 61000
    assert ask(lab, who, second, protocol=protocol) == 0
    assert answer(lab, who, 61000, protocol=protocol) == third
    age(lab, 2)
    assert ask(lab, who, second, protocol=protocol) in {0, 61000}


def test_a_connection_with_both_entries_stays(netns: str, who: Addresses, protocol: str) -> None:
    lab = made(netns, who, protocol=protocol)
    client = (clients(who, 1)[0], 40000)
    assert ask(lab, who, client, protocol=protocol) == 40000
    before = lab.flows().keys()
    for _ in range(3):
        age(lab, 2)
        assert ask(lab, who, client, protocol=protocol) == 40000
        assert lab.flows().keys() == before
