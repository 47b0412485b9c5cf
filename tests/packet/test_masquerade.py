# SPDX-License-Identifier: Apache-2.0
"""Pods reach the outside with an address of the node, and everything else with their own."""

from __future__ import annotations

import pytest

from kubypass.datapath.snat_failures import read_snat_failures
from kubypass.model.address import parse_address
from kubypass.model.verdict import Hook, LocalAddressKind, ServiceFlag, Verdict
from tests.packet.lab import NUMBERS, REDIRECT, SHOT, Lab
from tests.packet.outside import INSIDE, echo, outside, uplink
from tests.packet.packets import IN, TO_NETWORK, TO_POD, V4, V6, Addresses, segment
from tests.packet.snat import clients, tuple_of
from tests.packet.uplink import POD_DEVICES, uplink_index

PROTOCOLS = pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP"])
PORT = 443


def leaves(lab: Lab, who: Addresses, pod: str, port: int, **options: str) -> int:
    """A pod's first packet to a server outside; the source port that it leaves with, 0 if it is dropped."""
    result = lab.run("from_pod", segment(who, (pod, port, who.client, PORT), **options))
    if result.code == SHOT:
        return 0
    source, new, *server = tuple_of(result.packet)
    assert (source, server) == (who.node, [who.client, PORT]), result.counted
    return new


@PROTOCOLS
def test_there_and_back(netns: str, lab: Lab, who: Addresses, protocol: str) -> None:
    lab, flags = outside(netns), lab.flags
    lab.flags = flags
    request, seen = (who.pod, 40000, who.client, PORT), (who.node, 40000, who.client, PORT)
    for _ in range(2):
        result = lab.run("from_pod", segment(who, request, protocol=protocol, **IN))
        assert (result.code, result.packet) == (
            REDIRECT,
            bytes(segment(who, seen, protocol=protocol, **TO_NETWORK)),
        )
        assert dict(result.counted) == {(Hook.FROM_POD, Verdict.TO_NETWORK): 1}
        answer, back = (who.client, PORT, who.node, 40000), (who.client, PORT, who.pod, 40000)
        arrives = segment(who, answer, protocol=protocol, flags="SA", **IN)
        result = lab.run("from_uplink", arrives)
        wanted = segment(who, back, protocol=protocol, flags="SA", **TO_POD)
        assert (result.code, result.packet) == (REDIRECT, bytes(wanted))
        assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.TO_POD): 1}


@pytest.mark.parametrize("number", [40000, 7, 0], ids=["its own", "a low one", "zero"])
def test_ping_there_and_back(netns: str, lab: Lab, who: Addresses, number: int) -> None:
    flags, lab = lab.flags, outside(netns)
    lab.flags = flags
    result = lab.run("from_pod", echo(who, who.pod, who.client, number, IN))
    new = int.from_bytes(result.packet[{4: 38, 6: 58}[who.version] :][:2], "big")
    assert new == number if number >= 1024 else new >= 1024
    assert result.packet == bytes(echo(who, who.node, who.client, new, TO_NETWORK))
    assert result.code == REDIRECT
    answer = echo(who, who.client, who.node, new, IN, reply=True)
    result = lab.run("from_uplink", answer)
    assert result.packet == bytes(echo(who, who.client, who.pod, number, TO_POD, reply=True))
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.TO_POD): 1}


def test_two_pods_with_one_identifier(netns: str, who: Addresses) -> None:
    lab = outside(netns)
    first = lab.run("from_pod", echo(who, who.pod, who.client, 5000, IN))
    second = lab.run("from_pod", echo(who, who.second_pod, who.client, 5000, IN))
    assert first.packet == bytes(echo(who, who.node, who.client, 5000, TO_NETWORK))
    new = int.from_bytes(second.packet[{4: 38, 6: 58}[who.version] :][:2], "big")
    assert new >= 61000
    for number, pod in ((5000, who.pod), (new, who.second_pod)):
        result = lab.run("from_uplink", echo(who, who.client, who.node, number, IN, reply=True))
        assert result.packet == bytes(echo(who, who.client, pod, 5000, TO_POD, reply=True))


@PROTOCOLS
def test_two_pods_with_one_port(netns: str, who: Addresses, protocol: str) -> None:
    lab = outside(netns)
    assert leaves(lab, who, who.pod, 40000, protocol=protocol) == 40000 if protocol != "SCTP" else 1
    sent = segment(who, (who.pod, 40000, who.client, PORT), protocol=protocol)
    lab.run("from_pod", sent)
    sent = segment(who, (who.second_pod, 40000, who.client, PORT), protocol=protocol)
    result = lab.run("from_pod", sent)
    new = int.from_bytes(result.packet[{4: 34, 6: 54}[who.version] :][:2], "big")
    assert new >= 61000
    seen = (who.node, new, who.client, PORT)
    assert result.packet == bytes(segment(who, seen, protocol=protocol, **TO_NETWORK))
    for port, pod in ((40000, who.pod), (new, who.second_pod)):
        answer = segment(
            who, (who.client, PORT, who.node, port), protocol=protocol, flags="SA", **IN
        )
        back = segment(who, (who.client, PORT, pod, 40000), protocol=protocol, flags="SA", **TO_POD)
        assert lab.run("from_uplink", answer).packet == bytes(back)


def test_one_allocator_with_services(netns: str, who: Addresses) -> None:
    """A client of a NodePort whose backend is outside has the port; a pod gets another, and the other way round."""
    lab = outside(netns)
    lab.service(who.node, 30080, [who.client], flags=ServiceFlag.NODE_PORT, target=PORT)
    far = clients(who, 2)
    first = lab.run("from_uplink", segment(who, (far[0], 40000, who.node, 30080)))
    assert tuple_of(first.packet) == (who.node, 40000, who.client, PORT)
    assert leaves(lab, who, who.pod, 40000) >= 61000
    assert leaves(lab, who, who.pod, 40001) == 40001
    second = lab.run("from_uplink", segment(who, (far[1], 40001, who.node, 30080)))
    assert tuple_of(second.packet)[1] >= 61000


@pytest.mark.parametrize("flag", [ServiceFlag.NODE_PORT, ServiceFlag.HOST_PORT])
def test_a_port_that_clients_use_on_the_node_is_not_kept(
    netns: str, who: Addresses, flag: ServiceFlag
) -> None:
    lab = outside(netns)
    lab.service(who.node, 31000, [who.remote_pod], protocol="UDP", flags=flag)
    assert leaves(lab, who, who.pod, 31000, protocol="UDP") >= 61000
    assert leaves(lab, who, who.pod, 31000, protocol="TCP") == 31000, "it is of the other protocol"


def test_exhaustion_is_counted_by_destination(netns: str, who: Addresses) -> None:
    lab = outside(netns, snat_port_first=61000, snat_ports=3)
    pods = [(pod, 40000) for pod in (who.pod, who.second_pod)]
    extra = [str(who.pod.replace("14", str(n))) for n in (21, 22, 23)]
    for index, address in enumerate(extra):
        lab.local_address(address, LocalAddressKind.POD, POD_DEVICES[index + 2])
        pods.append((address, 40000))
    ports = [leaves(lab, who, *pod) for pod in pods]
    assert sorted(ports) == [0, 40000, 61000, 61001, 61002]
    (failure,) = read_snat_failures(lab.maps["snat_failures"])
    assert failure[:4] == (1, parse_address(who.client), PORT, NUMBERS["TCP"])


INSIDES = {
    4: {
        "a network of pods": "10.233.65.14",
        "a node": V4.other_node,
        "the agent's list": "198.51.100.7",
    },
    6: {
        "a network of pods": "fd00:10:233:65::14",
        "a node": V6.other_node,
        "the agent's list": "2001:db8:1::7",
    },
}


@PROTOCOLS
@pytest.mark.parametrize("where", sorted(INSIDES[4]))
def test_the_cluster_sees_pods_own_addresses(
    netns: str, who: Addresses, where: str, protocol: str
) -> None:
    lab = outside(netns)
    request = (who.pod, 40000, INSIDES[who.version][where], PORT)
    result = lab.run("from_pod", segment(who, request, protocol=protocol))
    assert result.packet == bytes(segment(who, request, protocol=protocol, **TO_NETWORK))
    number = echo(who, who.pod, INSIDES[who.version][where], 9, IN)
    wanted = echo(who, who.pod, INSIDES[who.version][where], 9, TO_NETWORK)
    assert lab.run("from_pod", number).packet == bytes(wanted)
    assert not lab.flows()


def test_longer_prefixes_and_both_families_are_told_apart(netns: str) -> None:
    lab = outside(netns)
    lab.put_inside({**INSIDE, "203.0.113.8/31": INSIDE["198.51.100.0/24"]})
    result = lab.run("from_pod", segment(V4, (V4.pod, 40000, "203.0.113.9", PORT)))
    assert tuple_of(result.packet)[0] == V4.pod
    result = lab.run("from_pod", segment(V4, (V4.pod, 40000, "203.0.113.10", PORT)))
    assert tuple_of(result.packet)[0] == V4.node
    assert leaves(lab, V6, V6.pod, 40000) == 40000


@pytest.mark.parametrize("families", [0, 1, 2])
def test_each_family_has_its_switch(netns: str, who: Addresses, families: int) -> None:
    lab = outside(netns, masquerade=families)
    on = families & {4: 1, 6: 2}[who.version]
    source = who.node if on else who.pod
    result = lab.run("from_pod", segment(who, (who.pod, 40000, who.client, PORT)))
    wanted = segment(who, (source, 40000, who.client, PORT), **TO_NETWORK)
    assert (result.code, result.packet) == (REDIRECT, bytes(wanted))
    result = lab.run("from_pod", echo(who, who.pod, who.client, 4000, IN))
    assert result.packet == bytes(echo(who, source, who.client, 4000, TO_NETWORK))


def test_a_device_that_is_no_uplink(netns: str, who: Addresses) -> None:
    """Answers would arrive where no program sees them."""
    lab = outside(netns)
    uplink(lab, uplink_index())
    request = (who.pod, 40000, who.client, PORT)
    result = lab.run("from_pod", segment(who, request))
    assert result.packet == bytes(segment(who, request, **TO_NETWORK))


def test_an_uplink_without_an_address_of_the_family(netns: str) -> None:
    """The agent leaves out the families that it does not masquerade."""
    lab = outside(netns)
    uplink(lab, uplink_index(), V4.node)
    assert leaves(lab, V4, V4.pod, 40000) == 40000
    request = (V6.pod, 40000, V6.client, PORT)
    result = lab.run("from_pod", segment(V6, request))
    assert result.packet == bytes(segment(V6, request, **TO_NETWORK))


def test_a_source_that_is_no_pods_stays(netns: str, who: Addresses) -> None:
    """A router in a pod forwards for others."""
    lab = outside(netns, verify_sources=0)
    other = clients(who, 1)[0]
    request = segment(who, (other, 40000, who.client, PORT))
    result = lab.run("from_pod", request, device=POD_DEVICES[0])
    assert tuple_of(result.packet)[0] == other
    result = lab.run(
        "from_pod", segment(who, (who.second_pod, 1, who.client, PORT)), device=POD_DEVICES[0]
    )
    assert tuple_of(result.packet)[0] == who.second_pod, "it is another pod's"
    assert leaves(lab, who, who.pod, 40000) == 40000


def test_an_open_connection_of_before_keeps_its_addresses(netns: str, who: Addresses) -> None:
    """Masquerading was switched on meanwhile, or a client outside has connected to the pod."""
    lab = outside(netns)
    for flags in ("A", "FA", "R", "SA"):
        request = (who.pod, 8080, who.client, 50000)
        result = lab.run("from_pod", segment(who, request, flags=flags))
        assert result.packet == bytes(segment(who, request, flags=flags, **TO_NETWORK))


@pytest.mark.parametrize("protocol", ["UDP", "SCTP"])
def test_answers_to_clients_that_know_the_pod(netns: str, who: Addresses, protocol: str) -> None:
    lab = outside(netns)
    request, answer = (who.client, 50000, who.pod, 53), (who.pod, 53, who.client, 50000)
    for _ in range(2):
        result = lab.run("from_uplink", segment(who, request, protocol=protocol))
        assert result.packet == bytes(segment(who, request, protocol=protocol, **TO_POD))
        result = lab.run("from_pod", segment(who, answer, protocol=protocol))
        assert result.packet == bytes(segment(who, answer, protocol=protocol, **TO_NETWORK))
    other = (who.pod, 53, who.client, 50001)
    result = lab.run("from_pod", segment(who, other, protocol="UDP"))
    assert tuple_of(result.packet)[0] == who.node, "nobody has asked from there"


def test_an_answer_to_a_ping_of_the_pod(netns: str, who: Addresses) -> None:
    lab = outside(netns)
    request = echo(who, who.client, who.pod, 5000, IN)
    wanted = echo(who, who.client, who.pod, 5000, TO_POD)
    assert lab.run("from_uplink", request).packet == bytes(wanted)
    answer = echo(who, who.pod, who.client, 5000, IN, reply=True)
    wanted = echo(who, who.pod, who.client, 5000, TO_NETWORK, reply=True)
    assert lab.run("from_pod", answer).packet == bytes(wanted)


def test_packets_from_the_cluster_to_a_pod_are_not_noted(netns: str, who: Addresses) -> None:
    lab = outside(netns)
    lab.run("from_uplink", segment(who, (who.remote_pod, 50000, who.pod, 53), protocol="UDP"))
    assert not lab.flows()


def test_replies_of_services_are_theirs(netns: str, who: Addresses, protocol: str) -> None:
    """The client's address is kept, so the answer goes to it from the pod: with the NodePort as its source."""
    lab = outside(netns)
    flags = ServiceFlag.NODE_PORT | ServiceFlag.LOCAL
    lab.service(who.node, 30080, [], local=[who.pod], protocol=protocol, flags=flags)
    lab.run("from_uplink", segment(who, (who.client, 50000, who.node, 30080), protocol=protocol))
    answer = segment(who, (who.pod, 8080, who.client, 50000), protocol=protocol, flags="SA")
    back = (who.node, 30080, who.client, 50000)
    wanted = segment(who, back, protocol=protocol, flags="SA", **TO_NETWORK)
    assert lab.run("from_pod", answer).packet == bytes(wanted)


@pytest.mark.parametrize("backend", ["outside", "inside"])
def test_a_service_with_a_backend_outside(netns: str, who: Addresses, backend: str) -> None:
    """What the pod's packet becomes goes to the outside as well."""
    lab = outside(netns)
    server, source = {"outside": (who.client, who.node), "inside": (who.remote_pod, who.pod)}[
        backend
    ]
    lab.service(who.service, 80, [server], target=PORT)
    result = lab.run("from_pod", segment(who, (who.pod, 40000, who.service, 80)))
    wanted = segment(who, (source, 40000, server, PORT), **TO_NETWORK)
    assert (result.code, result.packet) == (REDIRECT, bytes(wanted))
    if backend == "outside":
        answer = segment(who, (who.client, PORT, who.node, 40000), flags="SA")
        back = segment(who, (who.service, 80, who.pod, 40000), flags="SA", **TO_POD)
        assert lab.run("from_uplink", answer).packet == bytes(back)


def test_an_address_of_a_cloud_is_outside_by_its_link_local_address(netns: str) -> None:
    """Clouds have such; ip-masq-agent's list keeps it inside, where that is in use."""
    lab = outside(netns)
    request = (V4.pod, 40000, "169.254.169.254", 80)
    result = lab.run("from_pod", segment(V4, request))
    assert (result.code, tuple_of(result.packet)[0]) == (REDIRECT, V4.node)
    lab.put_inside({**INSIDE, "169.254.0.0/16": INSIDE["198.51.100.0/24"]})
    request = (V4.pod, 40001, "169.254.169.254", 80)
    assert lab.run("from_pod", segment(V4, request)).packet == bytes(segment(V4, request))
