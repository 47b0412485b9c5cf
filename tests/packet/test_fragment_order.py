# SPDX-License-Identifier: Apache-2.0
"""Fragments that overtake the first one wait for it, because only the first one has ports."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP

from kubypass.model.verdict import Hook, ServiceFlag, Verdict
from tests.packet.fragments import ORDERS, alike, check_queued, fragments, in_order, queued
from tests.packet.lab import PASS, REDIRECT, Lab
from tests.packet.packets import IN, TO_NETWORK, TO_POD, Addresses, segment


@pytest.mark.parametrize("order", [order for order in ORDERS if order[0]], ids=str)
def test_what_overtakes_the_first_piece_follows_it(
    lab: Lab, who: Addresses, protocol: str, order: tuple[int, int, int]
) -> None:
    """Through a NodePort to a pod elsewhere, and back."""
    lab.service(who.node, 30080, [who.remote_pod], protocol=protocol, flags=ServiceFlag.NODE_PORT)
    rows = [
        ((who.client, 40000, who.node, 30080), (who.node, 40000, who.remote_pod, 8080), "S"),
        ((who.remote_pod, 8080, who.node, 40000), (who.node, 30080, who.client, 40000), "SA"),
    ]
    for flow, seen, flags in rows:
        options = {"protocol": protocol, "flags": flags, "payload": alike(who, protocol)}
        sent = fragments(who, flow, IN, **options)
        in_order(lab, "from_uplink", sent, fragments(who, seen, TO_NETWORK, **options), order)


@pytest.mark.parametrize("where", ["this node", "another node"])
@pytest.mark.parametrize("order", [order for order in ORDERS if order[0]], ids=str)
def test_so_do_those_of_a_reply_to_a_pod(
    lab: Lab, who: Addresses, protocol: str, order: tuple[int, int, int], where: str
) -> None:
    """The pod is excluded from socket load balancing: its packets carry the service's address."""
    backend, program = (
        (who.second_pod, "from_pod") if where == "this node" else (who.remote_pod, "from_uplink")
    )
    lab.service(who.service, 80, [backend], protocol=protocol)
    lab.run("from_pod", segment(who, (who.pod, 40000, who.service, 80), protocol=protocol))
    options = {"protocol": protocol, "flags": "SA", "payload": alike(who, protocol)}
    sent = fragments(who, (backend, 8080, who.pod, 40000), IN, **options)
    wanted = fragments(who, (who.service, 80, who.pod, 40000), TO_POD, **options)
    in_order(lab, program, sent, wanted, order)


@pytest.mark.parametrize("order", [order for order in ORDERS if order[0]], ids=str)
def test_and_those_of_a_pods_reply_to_a_client(
    lab: Lab, who: Addresses, protocol: str, order: tuple[int, int, int]
) -> None:
    flags = ServiceFlag.NODE_PORT | ServiceFlag.LOCAL
    lab.service(who.node, 30080, [who.pod], local=[who.pod], protocol=protocol, flags=flags)
    lab.run("from_uplink", segment(who, (who.client, 40000, who.node, 30080), protocol=protocol))
    options = {"protocol": protocol, "flags": "SA", "payload": alike(who, protocol)}
    sent = fragments(who, (who.pod, 8080, who.client, 40000), IN, **options)
    wanted = fragments(who, (who.node, 30080, who.client, 40000), TO_NETWORK, **options)
    in_order(lab, "from_pod", sent, wanted, order)


@pytest.mark.parametrize(
    "kind", [ServiceFlag.CLUSTER_IP, ServiceFlag.EXTERNAL_IP, ServiceFlag.LOAD_BALANCER]
)
@pytest.mark.parametrize("program", ["from_pod", "from_uplink"])
def test_later_pieces_to_any_service_address_wait_for_the_first(
    lab: Lab, who: Addresses, kind: ServiceFlag, program: str
) -> None:
    lab.service(who.service, 80, [who.second_pod], protocol="UDP", flags=kind)
    client = who.pod if program == "from_pod" else who.client
    first, second, *_ = fragments(who, (client, 40000, who.service, 80), IN, protocol="UDP")
    check_queued(lab, program, second)
    with queued(lab) as again:
        lab.run(program, first)
    if kind != ServiceFlag.CLUSTER_IP or program == "from_pod":
        assert again == [second]


def test_pieces_of_the_nodes_own_datagrams_wait_too(lab: Lab, who: Addresses) -> None:
    """Nobody knows yet that they are."""
    lab.service(who.node, 30080, [who.remote_pod], protocol="UDP", flags=ServiceFlag.NODE_PORT)
    flow = (who.client, 40000, who.node, 53)
    first, second, third, *_ = fragments(who, flow, IN, protocol="UDP")
    check_queued(lab, "from_uplink", second)
    with queued(lab) as again:
        result = lab.run("from_uplink", first)
        assert (result.code, result.packet) == (PASS, first)
    assert again == [second]
    for piece in (second, third):
        assert (lab.run("from_uplink", piece).code) == PASS


def test_pieces_of_other_protocols_do_too(lab: Lab, who: Addresses) -> None:
    number, flow = (1, 58)[who.version == 6], (who.client, 40000, who.node, 53)
    sent = fragments(who, flow, IN, protocol="UDP")
    at, other = (23, 20)[who.version == 6], []
    for piece in sent:
        changed = bytearray(piece)
        changed[14 + 40 if who.version == 6 else at] = number
        if who.version == 4:
            ip = IP(bytes(changed[14:]))
            del ip.chksum
            changed[14:] = bytes(ip)
        other.append(bytes(changed))
    check_queued(lab, "from_uplink", other[1])
    with queued(lab) as again:
        assert lab.run("from_uplink", other[0]).code == PASS
    assert again == [other[1]]


def test_more_than_a_datagram_can_have_is_not_held(lab: Lab, who: Addresses) -> None:
    lab.service(who.service, 80, [who.second_pod], protocol="UDP")
    _, second, *_ = fragments(who, (who.pod, 40000, who.service, 80), IN, protocol="UDP")
    for _ in range(64):
        check_queued(lab, "from_pod", second)
    counted = lab.run("from_pod", second).counted
    assert dict(counted) == {(Hook.FROM_POD, Verdict.DROP_FRAGMENT): 1}


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_what_no_service_has_to_do_with_arrives_as_it_was(
    lab: Lab, who: Addresses, protocol: str, order: tuple[int, int, int]
) -> None:
    rows = [
        ("from_pod", (who.pod, 40000, who.second_pod, 53), TO_POD, REDIRECT),
        ("from_pod", (who.pod, 40000, who.remote_pod, 53), TO_NETWORK, REDIRECT),
        ("from_pod", (who.pod, 40000, who.client, 53), TO_NETWORK, REDIRECT),
        ("from_uplink", (who.remote_pod, 40000, who.pod, 53), TO_POD, REDIRECT),
        ("from_pod", (who.pod, 40000, who.node, 53), IN, PASS),
    ]
    options = {"protocol": protocol, "payload": alike(who, protocol)}
    lab.service(who.service, 80, [who.second_pod], protocol=protocol)
    for program, flow, where, code in rows:
        wanted = fragments(who, flow, where, **options)
        in_order(lab, program, fragments(who, flow, IN, **options), wanted, order, code)


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_what_the_nodes_stack_sends_keeps_any_order(
    lab: Lab, who: Addresses, protocol: str, order: tuple[int, int, int]
) -> None:
    lab.service(who.service, 80, [who.second_pod], protocol=protocol)
    rows = [
        ("to_uplink", (who.node, 40000, who.client, 53)),
        ("to_pod", (who.node, 40000, who.pod, 53)),
    ]
    for program, flow in rows:
        sent = fragments(who, flow, IN, protocol=protocol)
        for index in order:
            result = lab.run(program, sent[index])
            assert (result.code, result.packet) == (PASS, sent[index]), (program, flow)
    assert not list(lab.maps["fragments"].items()), "nothing is kept of it"
