# SPDX-License-Identifier: Apache-2.0
"""Packets to services, and their replies: whole packets, both families, TCP and UDP."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, UDP

from kubypass.model.verdict import Hook, LocalAddressKind, ServiceFlag, Verdict
from tests.packet.lab import PASS, SHOT, Lab, config
from tests.packet.packets import TO_NETWORK, TO_POD, V4, Addresses, segment
from tests.packet.translation import follow, ports, reply_flags

NODE_PORT = ServiceFlag.NODE_PORT


def test_pod_to_cluster_ip_with_a_local_backend_and_back(
    lab: Lab, who: Addresses, protocol: str
) -> None:
    lab.service(who.service, 80, [who.second_pod], protocol=protocol)
    request = (who.pod, 40000, who.service, 80)
    follow(
        lab,
        who,
        "from_pod",
        request,
        (who.pod, 40000, who.second_pod, 8080),
        TO_POD,
        protocol=protocol,
    )
    answer = (who.second_pod, 8080, who.pod, 40000)
    back = (who.service, 80, who.pod, 40000)
    follow(lab, who, "from_pod", answer, back, TO_POD, **reply_flags(protocol))


def test_pod_to_cluster_ip_with_a_remote_backend_and_back(
    lab: Lab, who: Addresses, protocol: str
) -> None:
    lab.service(who.service, 80, [who.remote_pod], protocol=protocol)
    request = (who.pod, 40000, who.service, 80)
    follow(
        lab,
        who,
        "from_pod",
        request,
        (who.pod, 40000, who.remote_pod, 8080),
        TO_NETWORK,
        protocol=protocol,
    )
    answer = (who.remote_pod, 8080, who.pod, 40000)
    back = (who.service, 80, who.pod, 40000)
    follow(lab, who, "from_uplink", answer, back, TO_POD, **reply_flags(protocol))


def test_a_pod_that_is_its_own_backend_sees_the_node(
    lab: Lab, who: Addresses, protocol: str
) -> None:
    lab.service(who.service, 80, [who.pod], protocol=protocol)
    request = (who.pod, 40000, who.service, 80)
    follow(
        lab, who, "from_pod", request, (who.node, 40000, who.pod, 8080), TO_POD, protocol=protocol
    )
    answer = (who.pod, 8080, who.node, 40000)
    back = (who.service, 80, who.pod, 40000)
    follow(lab, who, "from_pod", answer, back, TO_POD, **reply_flags(protocol))


def test_node_port_with_policy_local_keeps_the_client(
    lab: Lab, who: Addresses, protocol: str
) -> None:
    local = NODE_PORT | ServiceFlag.LOCAL
    lab.service(who.node, 30080, [], local=[who.pod], protocol=protocol, flags=local)
    request = (who.client, 40000, who.node, 30080)
    follow(
        lab,
        who,
        "from_uplink",
        request,
        (who.client, 40000, who.pod, 8080),
        TO_POD,
        protocol=protocol,
    )
    answer = (who.pod, 8080, who.client, 40000)
    back = (who.node, 30080, who.client, 40000)
    follow(lab, who, "from_pod", answer, back, TO_NETWORK, **reply_flags(protocol))


def test_node_port_with_a_remote_backend_and_back(lab: Lab, who: Addresses, protocol: str) -> None:
    lab.service(who.node, 30080, [who.remote_pod], protocol=protocol, flags=NODE_PORT)
    request = (who.client, 40000, who.node, 30080)
    sent_on = (who.node, 40000, who.remote_pod, 8080)
    follow(lab, who, "from_uplink", request, sent_on, TO_NETWORK, protocol=protocol)
    answer = (who.remote_pod, 8080, who.node, 40000)
    back = (who.node, 30080, who.client, 40000)
    follow(lab, who, "from_uplink", answer, back, TO_NETWORK, **reply_flags(protocol))


def test_a_backend_in_the_nodes_own_network(lab: Lab, who: Addresses, protocol: str) -> None:
    lab.service(who.node, 30080, [who.node], protocol=protocol, flags=NODE_PORT)
    request = segment(who, (who.client, 40000, who.node, 30080), protocol=protocol)
    result = lab.run("from_uplink", request)
    seen = (who.client, 40000, who.node, 8080)
    assert (result.code, result.packet) == (PASS, bytes(segment(who, seen, protocol=protocol)))
    answer = segment(who, (who.node, 8080, who.client, 40000), **reply_flags(protocol))
    result = lab.run("to_uplink", answer)
    back = (who.node, 30080, who.client, 40000)
    assert (result.code, result.packet) == (
        PASS,
        bytes(segment(who, back, **reply_flags(protocol))),
    )


def test_another_nodes_port_is_not_ours(lab: Lab, who: Addresses) -> None:
    lab.service(who.node, 30080, [who.pod], flags=NODE_PORT)
    packet = (who.pod, 40000, who.other_node, 30080)
    follow(lab, who, "from_pod", packet, packet, TO_NETWORK)


@pytest.mark.parametrize("program", ["from_pod", "from_uplink"])
def test_no_backends(lab: Lab, who: Addresses, program: str) -> None:
    lab.service(who.node, 30080, [], flags=NODE_PORT)
    client = who.pod if program == "from_pod" else who.client
    packet = segment(who, (client, 40000, who.node, 30080), payload="")
    result = lab.run(program, packet)
    assert [verdict for _, verdict in result.counted] == [Verdict.REJECT_NO_BACKEND]


def test_cluster_ip_from_outside_is_closed_unless_opened(
    place: str, lab: Lab, who: Addresses
) -> None:
    packet = segment(who, (who.client, 40000, who.service, 80))
    lab.service(who.service, 80, [who.pod])
    result = lab.run("from_uplink", packet)
    assert result.code == SHOT
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.DROP_EXTERNAL_CLUSTER_IP): 1}
    opened = Lab(place)
    opened.load(config(external_cluster_ip=1))
    opened.service(who.service, 80, [who.pod])
    follow(
        opened, who, "from_uplink", (who.client, 40000, who.service, 80),
        (who.node, 40000, who.pod, 8080), TO_POD,
    )  # fmt: skip


def test_two_clients_with_one_port_get_different_ones(
    lab: Lab, who: Addresses, protocol: str
) -> None:
    lab.service(who.node, 30080, [who.remote_pod], protocol=protocol, flags=NODE_PORT)
    other = "203.0.113.10" if who.version == 4 else "2001:db8:cafe::10"
    first = lab.run(
        "from_uplink", segment(who, (who.client, 40000, who.node, 30080), protocol=protocol)
    )
    second = lab.run(
        "from_uplink", segment(who, (other, 40000, who.node, 30080), protocol=protocol)
    )
    assert ports(first.packet)[0] == 40000
    port = ports(second.packet)[0]
    assert 61000 <= port <= 65535
    answer = (who.remote_pod, 8080, who.node, port)
    follow(
        lab, who, "from_uplink", answer, (who.node, 30080, other, 40000), TO_NETWORK,
        **reply_flags(protocol),
    )  # fmt: skip


def test_one_backend_behind_two_services_and_one_client_port(lab: Lab, who: Addresses) -> None:
    """The replies of both connections can be told apart."""
    other = "10.233.30.48" if who.version == 4 else "fd00:10:233::48"
    for service in (who.service, other):
        lab.service(service, 80, [who.second_pod])
    lab.run("from_pod", segment(who, (who.pod, 40000, who.service, 80)))
    second = lab.run("from_pod", segment(who, (who.pod, 40000, other, 80)))
    port = ports(second.packet)[0]
    assert port >= 61000
    back = (other, 80, who.pod, 40000)
    follow(lab, who, "from_pod", (who.second_pod, 8080, who.pod, port), back, TO_POD, flags="SA")


def test_a_direct_connection_is_kept_apart_from_a_translated_one(
    lab: Lab, who: Addresses, protocol: str
) -> None:
    lab.service(who.service, 80, [who.second_pod], protocol=protocol)
    lab.run("from_pod", segment(who, (who.pod, 40000, who.service, 80), protocol=protocol))
    straight = segment(who, (who.pod, 40000, who.second_pod, 8080), protocol=protocol)
    port = ports(lab.run("from_pod", straight).packet)[0]
    assert port >= 61000
    assert ports(lab.run("from_pod", straight).packet)[0] == port
    answer, back = (who.second_pod, 8080, who.pod, port), (who.second_pod, 8080, who.pod, 40000)
    follow(lab, who, "from_pod", answer, back, TO_POD, **reply_flags(protocol))


def test_a_packet_that_another_node_translated_is_kept_apart_too(
    lab: Lab, who: Addresses, protocol: str
) -> None:
    """The packet's source is that node, whose own client may have come by this node's NodePort."""
    local = NODE_PORT | ServiceFlag.LOCAL
    lab.service(who.node, 30080, [], local=[who.pod], protocol=protocol, flags=local)
    own, other = (who.client, 40000, who.node, 30080), (who.client, 40000, who.pod, 8080)
    lab.run("from_uplink", segment(who, own, protocol=protocol))
    port = ports(lab.run("from_uplink", segment(who, other, protocol=protocol)).packet)[0]
    assert port >= 61000
    answer, back = (who.pod, 8080, who.client, port), (who.pod, 8080, who.client, 40000)
    follow(lab, who, "from_pod", answer, back, TO_NETWORK, **reply_flags(protocol))


def test_the_nodes_own_stack_reaches_a_local_pod(lab: Lab, who: Addresses, protocol: str) -> None:
    lab.service(who.service, 80, [who.pod], protocol=protocol)
    request = (who.node, 40000, who.service, 80)
    target = (who.node, 40000, who.pod, 8080)
    follow(lab, who, "to_uplink", request, target, {**TO_POD, "ttl": 64}, protocol=protocol)


def test_the_nodes_own_connection_is_kept_apart_from_snat(
    lab: Lab, who: Addresses, protocol: str
) -> None:
    lab.service(who.node, 30080, [who.remote_pod], protocol=protocol, flags=NODE_PORT)
    lab.run("from_uplink", segment(who, (who.client, 40000, who.node, 30080), protocol=protocol))
    own = lab.run(
        "to_uplink", segment(who, (who.node, 40000, who.remote_pod, 8080), protocol=protocol)
    )
    port = ports(own.packet)[0]
    assert (own.code, port >= 61000) == (PASS, True)
    answer = segment(who, (who.remote_pod, 8080, who.node, port), **reply_flags(protocol))
    result = lab.run("from_uplink", answer)
    back = (who.remote_pod, 8080, who.node, 40000)
    assert (result.code, result.packet) == (
        PASS,
        bytes(segment(who, back, **reply_flags(protocol))),
    )


def test_a_udp_checksum_of_zero_stays_zero(lab: Lab) -> None:
    """Nobody looks at a device's sum of such a packet: only the plain row means something."""
    lab.flags = 0
    lab.service(V4.service, 80, [V4.second_pod], protocol="UDP")
    packet = segment(V4, (V4.pod, 40000, V4.service, 80), protocol="UDP")
    packet[UDP].chksum = 0
    result = lab.run("from_pod", packet)
    assert IP(result.packet[14:])[UDP].chksum == 0


def test_an_address_of_the_node_that_is_no_primary_serves_node_ports_too(
    lab: Lab, who: Addresses
) -> None:
    second = "192.168.9.9" if who.version == 4 else "fd00:9::9"
    lab.local_address(second, LocalAddressKind.NODE_PORTS)
    lab.service(who.node, 30080, [who.pod], flags=NODE_PORT)
    request = (who.client, 40000, second, 30080)
    follow(lab, who, "from_uplink", request, (who.node, 40000, who.pod, 8080), TO_POD)
    back = (second, 30080, who.client, 40000)
    follow(lab, who, "from_pod", (who.pod, 8080, who.node, 40000), back, TO_NETWORK, flags="SA")


def test_node_ports_answer_on_chosen_addresses_only(lab: Lab, who: Addresses) -> None:
    lab.service(who.node, 30080, [who.pod], flags=NODE_PORT)
    lab.local_address(who.node, LocalAddressKind.NODE)
    result = lab.run("from_uplink", segment(who, (who.client, 40000, who.node, 30080)))
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.PASS): 1}


def test_a_pods_address_carries_no_service(lab: Lab, who: Addresses) -> None:
    lab.service(who.second_pod, 80, [who.remote_pod], flags=ServiceFlag.EXTERNAL_IP)
    direct = (who.pod, 40000, who.second_pod, 80)
    follow(lab, who, "from_pod", direct, direct, TO_POD)
