# SPDX-License-Identifier: Apache-2.0
"""Fragmented datagrams go through services and back, and in any order past them.

What comes out are the fragments of the translated datagram, with the checksum of the whole in the first.
"""

from __future__ import annotations

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment

from kubypass.datapath import layout
from kubypass.model.verdict import Hook, ServiceFlag, Verdict
from tests.packet.fragments import check_queued, follow, fragments
from tests.packet.lab import PASS, Lab
from tests.packet.packets import IN, TO_NETWORK, TO_POD, V4, V6, Addresses, segment


def test_to_a_backend_of_the_node_and_back(lab: Lab, who: Addresses, protocol: str) -> None:
    lab.service(who.service, 80, [who.second_pod], protocol=protocol)
    request, seen = (who.pod, 40000, who.service, 80), (who.pod, 40000, who.second_pod, 8080)
    follow(lab, who, "from_pod", request, seen, TO_POD, protocol=protocol)
    answer, back = (who.second_pod, 8080, who.pod, 40000), (who.service, 80, who.pod, 40000)
    follow(lab, who, "from_pod", answer, back, TO_POD, protocol=protocol, flags="SA")


def test_to_a_backend_elsewhere_and_back(lab: Lab, who: Addresses, protocol: str) -> None:
    lab.service(who.node, 30080, [who.remote_pod], protocol=protocol, flags=ServiceFlag.NODE_PORT)
    request, seen = (who.client, 40000, who.node, 30080), (who.node, 40000, who.remote_pod, 8080)
    follow(lab, who, "from_uplink", request, seen, TO_NETWORK, protocol=protocol)
    answer, back = (who.remote_pod, 8080, who.node, 40000), (who.node, 30080, who.client, 40000)
    follow(lab, who, "from_uplink", answer, back, TO_NETWORK, protocol=protocol, flags="SA")


def test_to_a_backend_in_the_nodes_network_and_back(
    lab: Lab, who: Addresses, protocol: str
) -> None:
    lab.service(who.node, 30080, [who.node], protocol=protocol, flags=ServiceFlag.NODE_PORT)
    request, seen = (who.client, 40000, who.node, 30080), (who.client, 40000, who.node, 8080)
    follow(lab, who, "from_uplink", request, seen, IN, code=PASS, protocol=protocol)
    answer, back = (who.node, 8080, who.client, 40000), (who.node, 30080, who.client, 40000)
    follow(lab, who, "to_uplink", answer, back, IN, code=PASS, protocol=protocol, flags="SA")


def test_from_the_nodes_network_to_a_pod(lab: Lab, who: Addresses, protocol: str) -> None:
    lab.service(who.service, 80, [who.node], protocol=protocol)
    request, seen = (who.pod, 40000, who.service, 80), (who.pod, 40000, who.node, 8080)
    follow(lab, who, "from_pod", request, seen, IN, code=PASS, protocol=protocol)
    answer, back = (who.node, 8080, who.pod, 40000), (who.service, 80, who.pod, 40000)
    follow(lab, who, "to_pod", answer, back, IN, code=PASS, protocol=protocol, flags="SA")


def test_without_its_flow_a_later_fragment_is_dropped(lab: Lab, who: Addresses) -> None:
    lab.service(who.service, 80, [who.second_pod], protocol="UDP")
    first, second, *_ = fragments(who, (who.pod, 40000, who.service, 80), IN, protocol="UDP")
    lab.run("from_pod", first)
    lab.expire_flows()
    result = lab.run("from_pod", second)
    assert dict(result.counted) == {(Hook.FROM_POD, Verdict.DROP_FRAGMENT): 1}


def test_an_identification_that_is_used_again(lab: Lab, who: Addresses) -> None:
    """Two connections of the same hosts, one translated: each datagram is its own connection's."""
    lab.service(who.node, 30080, [who.pod], protocol="UDP", flags=ServiceFlag.NODE_PORT)
    translated, plain = (who.client, 40000, who.node, 30080), (who.client, 40000, who.node, 53)
    seen = (who.node, 40000, who.pod, 8080)
    for _ in range(2):
        follow(lab, who, "from_uplink", translated, seen, TO_POD, protocol="UDP")
        follow(lab, who, "from_uplink", plain, plain, IN, code=PASS, protocol="UDP")


def test_datagrams_at_the_same_time(lab: Lab, who: Addresses) -> None:
    """Two hosts send to two services at the same time: each fragment follows its own datagram."""
    ends = ((who.second_pod, TO_POD), (who.remote_pod, TO_NETWORK))
    for number, (backend, _) in enumerate(ends):
        lab.service(who.service, 80 + number, [backend], protocol="UDP")
    flows = [(who.pod, 40000 + number, who.service, 80 + number % 2) for number in range(4)]
    seen = [(who.pod, 40000 + number, ends[number % 2][0], 8080) for number in range(4)]
    sent = [fragments(who, flow, IN, protocol="UDP", number=9 + i) for i, flow in enumerate(flows)]
    wanted = [
        fragments(who, flow, ends[i % 2][1], protocol="UDP", number=9 + i)
        for i, flow in enumerate(seen)
    ]
    for together, expected in zip(zip(*sent, strict=True), zip(*wanted, strict=True), strict=True):
        assert [lab.run("from_pod", each).packet for each in together] == list(expected)


def test_ports_are_kept_for_as_long_as_fragments_may_come(lab: Lab, who: Addresses) -> None:
    lab.service(who.node, 30080, [who.pod], protocol="UDP", flags=ServiceFlag.NODE_PORT)
    first, second, *_ = fragments(who, (who.client, 40000, who.node, 30080), IN, protocol="UDP")
    lab.run("from_uplink", first)
    ((key, value),) = lab.maps["fragments"].items()
    ports = layout.DatagramPorts.unpack(value)
    assert (ports.source_port, ports.destination_port, ports.protocol) == (40000, 30080, 17)
    lab.maps["fragments"].update(key, ports._replace(expires_ns=1).pack())
    check_queued(lab, "from_uplink", second)


def test_an_ipv6_datagram_of_one_fragment_is_no_fragment(lab: Lab) -> None:
    """RFC 6946."""
    lab.service(V6.service, 80, [V6.second_pod], protocol="UDP")
    packet = segment(V6, (V6.pod, 40000, V6.service, 80), protocol="UDP")
    udp = packet[UDP]
    packet[IPv6].remove_payload()
    result = lab.run("from_pod", packet / IPv6ExtHdrFragment(id=5) / udp)
    assert IPv6(result.packet[14:]).dst == V6.second_pod
    assert not list(lab.maps["fragments"].items())


def test_a_first_fragment_without_a_whole_header_is_malformed(lab: Lab) -> None:
    """RFC 1858: it could hide its flags in the second fragment."""
    lab.service(V4.service, 80, [V4.second_pod])
    packet = segment(V4, (V4.pod, 40000, V4.service, 80), payload="")
    whole = bytes(packet[TCP])
    packet[IP].remove_payload()
    packet[IP].flags, packet[IP].proto = "MF", 6
    result = lab.run("from_pod", packet / whole[:8])
    assert dict(result.counted) == {(Hook.FROM_POD, Verdict.DROP_MALFORMED): 1}
