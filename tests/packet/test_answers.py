# SPDX-License-Identifier: Apache-2.0
"""Packets that no endpoint gets: the answer as a whole packet, silence, or nothing at all. From objects."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from kubypass.datapath import layout
from kubypass.model.verdict import Verdict
from tests.packet.lab import PASS, REDIRECT, SHOT
from tests.packet.objects import (
    BALANCER,
    EXTERNAL,
    NODE_PORT,
    PORT,
    endpoint,
    endpoint_slice,
    frontends,
    put,
    service,
)
from tests.packet.packets import POD_MAC, VETH_MAC, Addresses, segment
from tests.packet.pipeline import Pipeline
from tests.packet.policies import HOOKS, source_of

CLOCK_MONOTONIC_COARSE = 6
LONGEST = {4: 576, 6: 1280}
"""What every host takes: no error is longer."""


def unreachable(who: Addresses, packet: Packet) -> Packet:
    """Port unreachable, from the address that was asked, with as much of the packet as fits."""
    asked = packet[IP if who.version == 4 else IPv6]
    headers = 28 if who.version == 4 else 48
    quoted = bytes(asked)[: LONGEST[who.version] - headers]
    ethernet = Ether(src=VETH_MAC, dst=POD_MAC)
    if who.version == 4:
        return (
            ethernet
            / IP(src=asked.dst, dst=asked.src, ttl=64, id=0)
            / ICMP(type=3, code=3)
            / quoted
        )
    ip = IPv6(src=asked.dst, dst=asked.src, hlim=64)
    return ethernet / ip / ICMPv6DestUnreach(code=4) / quoted


def check_rejected(
    pipeline: Pipeline,
    who: Addresses,
    client: str,
    frontend: tuple[str, int],
    protocol: str,
    payload: str = "hello",
) -> Verdict:
    flow = (source_of(who, client), 40000, *frontend)
    packet = segment(who, flow, protocol=protocol, payload=payload)
    seen = pipeline.run(HOOKS[client], bytes(packet), cut=True)
    assert (seen.code, seen.verdict > Verdict.ANSWER) == (REDIRECT, True)
    assert seen.packet == bytes(unreachable(who, packet))
    return seen.verdict


@pytest.fixture(params=["TCP", "UDP", "SCTP"])
def protocol(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("kind", ["cluster", "node", "external", "balancer"])
@pytest.mark.parametrize("client", ["pod", "node", "outside"])
@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_nothing_serves_anywhere(
    opened: Pipeline, who: Addresses, protocol: str, kind: str, client: str, policy: str
) -> None:
    if (kind, client) == ("node", "node"):
        return  # never a packet on the uplink
    policies = {"internalTrafficPolicy": policy, "externalTrafficPolicy": policy}
    put(opened, service(who, protocol=protocol, **policies))
    verdict = check_rejected(opened, who, client, frontends(who)[kind], protocol)
    assert verdict == Verdict.REJECT_NO_BACKEND


@pytest.mark.parametrize("payload", ["", "x", "y" * 21, "z" * 1200])
def test_any_size_is_answered_alike(
    opened: Pipeline, who: Addresses, protocol: str, payload: str
) -> None:
    put(opened, service(who, protocol=protocol))
    check_rejected(opened, who, "pod", frontends(who)["cluster"], protocol, payload)


def test_nobody_is_told_more_than_fifty_times_at_once(opened: Pipeline, who: Addresses) -> None:
    """Then one more each millisecond."""
    put(opened, service(who))
    packet = bytes(segment(who, (who.pod, 40000, *frontends(who)["cluster"])))
    assert opened.run("from_pod", packet, cut=True).code == REDIRECT  # the first for a long time
    budget = opened.lab.maps["icmp_budget"]
    left = sorted(layout.IcmpBudget.unpack(one).tokens for one in budget.lookup_percpu(bytes(4)))
    assert left[0] == 49
    codes: list[int] = []
    while SHOT not in codes and len(codes) < 1000:  # a millisecond may pass in between
        now = time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE)
        budget.update(bytes(4), layout.IcmpBudget(now, 0).pack() * len(left))
        codes.append(opened.lab.programs["from_pod"].test_run(packet).retval)
    assert codes[-1] == SHOT


def test_silence_where_the_setting_says_so(
    start: Callable[[str], Pipeline], who: Addresses, protocol: str
) -> None:
    silent = start("silent")
    put(silent, service(who, protocol=protocol))
    for client in ("pod", "node"):
        packet = segment(
            who, (source_of(who, client), 40000, *frontends(who)["cluster"]), protocol=protocol
        )
        seen = silent.run(HOOKS[client], bytes(packet))
        assert (seen.code, seen.verdict) == (SHOT, Verdict.DROP_NO_BACKEND)
        packet = segment(who, (source_of(who, client), 40000, who.service, 81), protocol=protocol)
        seen = silent.run(HOOKS[client], bytes(packet))
        assert (seen.code, seen.verdict) == (SHOT, Verdict.DROP_NO_SERVICE)


@pytest.mark.parametrize("client", ["pod", "node", "outside"])
def test_a_port_or_protocol_that_a_cluster_ip_has_not(
    opened: Pipeline, who: Addresses, client: str
) -> None:
    put(opened, service(who), endpoint_slice(who, [endpoint(who.second_pod)]))
    for frontend, protocol in (((who.service, 81), "TCP"), ((who.service, PORT), "UDP")):
        verdict = check_rejected(opened, who, client, frontend, protocol)
        assert verdict == Verdict.REJECT_NO_SERVICE


def test_segments_of_unknown_connections_from_outside_do_not_go_round_either(
    opened: Pipeline, who: Addresses
) -> None:
    put(opened, service(who), endpoint_slice(who, [endpoint(who.second_pod)]))
    verdicts = []
    for address in (who.service, EXTERNAL[who.version]):
        packet = segment(who, (who.client, 40000, address, 81), flags="A")
        verdicts.append(opened.run("from_uplink", bytes(packet), cut=True).verdict)
    assert verdicts == [Verdict.REJECT_NO_SERVICE, Verdict.DROP_LOOP]


@pytest.mark.parametrize("kind", ["external", "balancer"])
def test_a_port_that_an_external_address_has_not(
    opened: Pipeline, who: Addresses, kind: str
) -> None:
    """The machine that has it may serve that; but what the router sent here is not sent back to it."""
    put(opened, service(who), endpoint_slice(who, [endpoint(who.second_pod)]))
    address = {"external": EXTERNAL, "balancer": BALANCER}[kind][who.version]
    results = {}
    for client in ("pod", "node", "outside"):
        packet = segment(who, (source_of(who, client), 40000, address, 81))
        seen = opened.run(HOOKS[client], bytes(packet))
        results[client] = (seen.code, seen.verdict)
    assert results == {
        "pod": (REDIRECT, Verdict.TO_NETWORK),
        "node": (PASS, Verdict.PASS),
        "outside": (SHOT, Verdict.DROP_LOOP),
    }


def test_a_node_port_of_another_protocol_is_the_nodes_own(opened: Pipeline, who: Addresses) -> None:
    put(opened, service(who), endpoint_slice(who, [endpoint(who.second_pod)]))
    packet = bytes(segment(who, (who.client, 40000, who.node, NODE_PORT), protocol="UDP"))
    seen = opened.run("from_uplink", packet)
    assert (seen.verdict, seen.packet) == (Verdict.PASS, packet)


@pytest.mark.parametrize("client", ["pod", "node"])
def test_an_address_that_no_service_has_in_the_services_network(
    start: Callable[[str], Pipeline], who: Addresses, client: str
) -> None:
    pipeline = start("pods' network")
    put(pipeline, service(who), endpoint_slice(who, [endpoint(who.second_pod)]))
    free = who.service[:-1] + "9"
    packet = segment(who, (source_of(who, client), 40000, free, PORT))
    seen = pipeline.run(HOOKS[client], bytes(packet))
    assert (seen.code, seen.verdict) == (SHOT, Verdict.DROP_NO_SERVICE)


def test_ping_of_a_service(opened: Pipeline, who: Addresses) -> None:
    put(opened, service(who), endpoint_slice(who, [endpoint(who.second_pod)]))
    message = ICMP() if who.version == 4 else ICMPv6EchoRequest()
    packets = [
        Ether(src=POD_MAC, dst=VETH_MAC) / who.ip(who.pod, address) / message
        for address in (who.service, EXTERNAL[who.version])
    ]
    seen = [opened.run("from_pod", bytes(packet)).verdict for packet in packets]
    assert seen == [Verdict.DROP_NO_SERVICE, Verdict.TO_NETWORK]


def test_a_service_that_loses_its_endpoints_and_finds_others(
    opened: Pipeline, who: Addresses
) -> None:
    frontend = frontends(who)["cluster"]
    put(opened, service(who), endpoint_slice(who, [endpoint(who.second_pod)]))
    packet = segment(who, (who.pod, 40001, *frontend))
    assert opened.run("from_pod", bytes(packet)).verdict == Verdict.TO_POD
    put(opened, endpoint_slice(who, []))
    check_rejected(opened, who, "pod", frontend, "TCP")
    put(opened, endpoint_slice(who, [endpoint(who.remote_pod, node="node2")]))
    packet = segment(who, (who.pod, 40002, *frontend))
    assert opened.run("from_pod", bytes(packet)).verdict == Verdict.TO_NETWORK
    opened.put("web", None)
    opened.sync()
    packet = segment(who, (who.pod, 40003, *frontend))
    assert opened.run("from_pod", bytes(packet)).verdict == Verdict.TO_NETWORK
