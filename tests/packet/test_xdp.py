# SPDX-License-Identifier: Apache-2.0
"""What XDP handles, and what it leaves to from_uplink as it came.

That both make the same of a packet is shown by every other row here: each runs once more with XDP before from_uplink.
"""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether

from kubypass.datapath.loader import XDP_PROGRAM
from kubypass.model.verdict import FlowFlag, FlowState, Hook, ServiceFlag, Verdict
from tests.packet.at_driver import by_driver, by_uplink, request, without_checksum
from tests.packet.driver import TX, drive
from tests.packet.fragments import fragments
from tests.packet.icmp_errors import ERRORS, error, quoted, router
from tests.packet.lab import Lab
from tests.packet.packets import IN, TO_NETWORK, V4, Addresses, segment
from tests.packet.translation import follow, ports
from tests.packet.uplink import (
    run_inside,
    uplink_index,
)

NODE_PORT = ServiceFlag.NODE_PORT
PROTOCOLS = ["TCP", "UDP", "SCTP"]
JUMBO = 8000


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_node_port_with_a_backend_elsewhere(driver: Lab, who: Addresses, protocol: str) -> None:
    """The first packet, one of the known flow, and the answer: whole packets."""
    driver.service(who.node, 30080, [who.remote_pod], protocol=protocol, flags=NODE_PORT)
    went = (who.node, 40000, who.remote_pod, 8080)
    for flags in "SA":
        sent = request(who, protocol=protocol, flags=flags)
        result = by_driver(driver, sent)
        expected = segment(who, went, protocol=protocol, flags=flags, **TO_NETWORK)
        assert result.packet == bytes(expected)
    answer = segment(who, (who.remote_pod, 8080, who.node, 40000), protocol=protocol, flags="SA")
    back = (who.node, 30080, who.client, 40000)
    result = by_driver(driver, answer)
    assert result.driver_code == TX
    assert result.packet == bytes(segment(who, back, protocol=protocol, flags="SA", **TO_NETWORK))


@pytest.mark.parametrize("kind", [ServiceFlag.EXTERNAL_IP, ServiceFlag.LOAD_BALANCER])
def test_an_external_address(driver: Lab, who: Addresses, protocol: str, kind: ServiceFlag) -> None:
    external = "198.51.100.1" if who.version == 4 else "2001:db8:e::1"
    driver.service(external, 80, [who.remote_pod], protocol=protocol, flags=kind)
    sent = segment(who, (who.client, 40000, external, 80), protocol=protocol)
    expected = segment(
        who, (who.node, 40000, who.remote_pod, 8080), protocol=protocol, **TO_NETWORK
    )
    assert by_driver(driver, sent).packet == bytes(expected)


def test_the_other_programs_see_its_connections(driver: Lab, who: Addresses, protocol: str) -> None:
    """XDP and tc share their maps: a connection of one is known to the other."""
    driver.service(who.node, 30080, [who.remote_pod], protocol=protocol, flags=NODE_PORT)
    by_driver(driver, request(who, protocol=protocol))
    driver.driver = False
    expected = (who.node, 40000, who.remote_pod, 8080)
    flow = (who.client, 40000, who.node, 30080)
    options = {"protocol": protocol, "flags": "A"}
    follow(driver, who, "from_uplink", flow, expected, TO_NETWORK, **options)
    assert len(driver.flows()) == 2


def test_clients_with_one_port_get_different_ones(driver: Lab, who: Addresses) -> None:
    driver.service(who.node, 30080, [who.remote_pod], flags=NODE_PORT)
    other = "203.0.113.10" if who.version == 4 else "2001:db8:cafe::10"
    first = by_driver(driver, request(who))
    second = by_driver(driver, segment(who, (other, 40000, who.node, 30080)))
    assert ports(first.packet)[0] == 40000 != ports(second.packet)[0]


def test_icmp_errors_both_ways(driver: Lab, who: Addresses, protocol: str) -> None:
    """About what the backend got, to the client; and about what the client got, to the backend: every kind."""
    driver.service(who.node, 30080, [who.remote_pod], protocol=protocol, flags=NODE_PORT)
    by_driver(driver, request(who, protocol=protocol))
    went, got = (who.node, 40000, who.remote_pod, 8080), (who.node, 30080, who.client, 40000)
    for source, flow in ((router(who), went), (who.remote_pod, went), (who.client, got)):
        for message in ERRORS[who.version]:
            quote = quoted(who, flow, protocol=protocol)
            sent = error(who, source, who.node, message, quote, IN)
            driver.driver = False
            expected = driver.run("from_uplink", sent)
            driver.driver = True
            assert dict(expected.counted) == {(Hook.FROM_UPLINK, Verdict.TO_NETWORK): 1}
            assert by_driver(driver, sent).packet == expected.packet


PASSED: dict[str, dict[str, Any]] = {
    "to another host's MAC address": {"dmac": "02:00:00:00:77:01"},
    "to everybody": {"dmac": "ff:ff:ff:ff:ff:ff"},
    "to a group": {"dmac": "01:00:5e:00:00:01"},
    "with no hop left": {"ttl": 1},
    "a segment whose entry is lost": {"flags": "A"},
}


@pytest.mark.parametrize("how", PASSED)
def test_what_is_left_to_the_stack(driver: Lab, who: Addresses, how: str) -> None:
    driver.service(who.node, 30080, [who.remote_pod], flags=NODE_PORT)
    by_uplink(driver, request(who, **PASSED[how]))


def test_a_backend_of_this_node(driver: Lab, who: Addresses, protocol: str) -> None:
    """It is from_uplink's, new and known. Once it is confirmed, XDP knows by the entry."""
    driver.service(who.node, 30080, [who.pod], protocol=protocol, flags=NODE_PORT)
    by_uplink(driver, request(who, protocol=protocol))
    answer = segment(
        who, (who.pod, 8080, who.node, 40000), protocol=protocol, flags="SA", seq=500, ack=106, **IN
    )
    driver.run("from_pod", answer)
    for _ in range(3):
        options = {"protocol": protocol, "flags": "A", "seq": 106, "ack": 506}
        by_uplink(driver, request(who, **options))
    known = [flow for key, flow in driver.flows().items() if key.destination_port == 30080]
    # A datagram's entry is confirmed when it is refreshed, after a second.
    assert [bool(flow.flags & FlowFlag.STAYS) for flow in known] == [protocol == "TCP"]


def test_what_is_not_ip_or_not_whole(driver: Lab, who: Addresses) -> None:
    driver.service(who.node, 30080, [who.remote_pod], flags=NODE_PORT)
    tagged = request(who)
    payload = tagged.payload
    tagged.remove_payload()
    for packet in (Ether(dst=IN["dmac"]) / ARP(), tagged / Dot1Q(vlan=7) / payload):
        assert drive(driver.programs[XDP_PROGRAM], bytes(packet), uplink_index()) is None
    by_uplink(driver, bytes(request(who))[:-8])
    assert not driver.flows()


@pytest.mark.parametrize("which", range(3))
def test_fragments(driver: Lab, who: Addresses, which: int) -> None:
    driver.service(who.node, 30080, [who.remote_pod], protocol="UDP", flags=NODE_PORT)
    flow = (who.client, 40000, who.node, 30080)
    by_uplink(driver, fragments(who, flow, IN, protocol="UDP")[which])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_checksum_that_is_left_to_a_device(driver: Lab, who: Addresses, protocol: str) -> None:
    """Only an sk_buff says that the checksum is still to be computed; XDP looks whether it may be."""
    driver.service(who.node, 30080, [who.remote_pod], protocol=protocol, flags=NODE_PORT)
    by_uplink(driver, without_checksum(request(who, protocol=protocol)))
    by_driver(driver, segment(who, (who.client, 40001, who.node, 30080), protocol=protocol))


def test_no_udp_checksum_is_none(driver: Lab) -> None:
    driver.service(V4.node, 30080, [V4.remote_pod], protocol="UDP", flags=NODE_PORT)
    packet = request(V4, protocol="UDP")
    packet[UDP].chksum = 0
    assert Ether(by_driver(driver, packet).packet)[UDP].chksum == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_route_without_a_known_neighbour(
    driver: Lab, who: Addresses, protocol: str, netns: str
) -> None:
    """The connection is opened here, and from_uplink finds it: the kernel resolves the MAC address there."""
    gateway = "192.168.1.77" if who.version == 4 else "fd00:c0a8:1::77"
    there = "10.233.77.14" if who.version == 4 else "fd00:10:233:77::14"
    run_inside(netns, "ip", "route", "add", there, "via", gateway)
    try:
        driver.service(who.node, 30080, [there], protocol=protocol, flags=NODE_PORT)
        result = by_uplink(driver, request(who, protocol=protocol))
        assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.TO_NETWORK): 1}
        assert len(driver.flows()) == 2
    finally:
        run_inside(netns, "ip", "route", "delete", there)


def test_a_packet_that_does_not_fit_the_route(driver: Lab, who: Addresses) -> None:
    """A frame that a device has joined (GRO) is larger than any route: from_uplink knows its segments."""
    driver.service(who.node, 30080, [who.remote_pod], protocol="UDP", flags=NODE_PORT)
    by_driver(driver, request(who, protocol="UDP"))
    by_uplink(driver, request(who, protocol="UDP", payload="x" * 1600))


def test_it_keeps_the_state_of_connections(driver: Lab, who: Addresses) -> None:
    """A handshake that only XDP sees confirms the connection, and FINs of both ends close it."""
    driver.service(who.node, 30080, [who.remote_pod], flags=NODE_PORT)

    def pass_by(flags: str, seq: int, ack: int, *, back: bool = False) -> set[int]:
        flow = (
            (who.remote_pod, 8080, who.node, 40000)
            if back
            else (who.client, 40000, who.node, 30080)
        )
        by_driver(driver, segment(who, flow, flags=flags, seq=seq, ack=ack, payload=""))
        return {flow.state for flow in driver.flows().values()}

    assert pass_by("S", 99, 0) == {FlowState.NEW}
    pass_by("SA", 499, 100, back=True)
    assert pass_by("A", 100, 500) == {FlowState.ESTABLISHED}
    pass_by("FA", 100, 500)
    pass_by("FA", 500, 101, back=True)
    assert FlowState.CLOSED in pass_by("A", 101, 501)
