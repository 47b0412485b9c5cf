# SPDX-License-Identifier: Apache-2.0
"""Datagrams in pieces: through services and back, in any order beside them.

What comes out are the pieces of the translated datagram, with the checksum of the whole in the first.
"""

from __future__ import annotations

import itertools
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import Ether

from kubypass.datapath import layout
from kubypass.kernel.netns import inside
from kubypass.model.verdict import Hook, ServiceFlag, Verdict
from tests.packet.lab import IN, PASS, REDIRECT, SHOT, TO_NETWORK, TO_POD, V4, V6, segment

ETH_P_ALL = 3
ORDERS = list(itertools.permutations(range(3)))
PAYLOAD = "".join(f"{number:07} " for number in range(375))  # 3000 bytes


def pieces(who, flow, where, **options):
    """The frames that carry the datagram of a flow; options: protocol, number (its identification), payload."""
    number = options.pop("number", 7)
    whole = segment(who, flow, **{"payload": PAYLOAD, **where, **options})
    ethernet, ip = Ether(src=whole.src, dst=whole.dst), whole.payload
    if who.version == 4:
        ip.id = number
        found = fragment(IP(bytes(ip)), 1000)
    else:
        transport = ip.payload
        ip.remove_payload()
        ip.plen = None
        found = fragment6(ip / IPv6ExtHdrFragment(id=number) / transport, 1100)
    assert len(found) >= 3
    return [bytes(ethernet / piece) for piece in found]


def follow(lab, who, program, sent, expected, where, code=REDIRECT, **options):
    """Every piece in turn."""
    wanted = pieces(who, expected, where, **options)
    for piece, whole in zip(pieces(who, sent, IN, **options), wanted, strict=True):
        result = lab.run(program, piece)
        assert (result.code, result.packet) == (code, whole), result.counted


def test_to_a_backend_of_the_node_and_back(lab, who, protocol):
    lab.service(who.service, 80, [who.second_pod], protocol=protocol)
    request, seen = (who.pod, 40000, who.service, 80), (who.pod, 40000, who.second_pod, 8080)
    follow(lab, who, "from_pod", request, seen, TO_POD, protocol=protocol)
    answer, back = (who.second_pod, 8080, who.pod, 40000), (who.service, 80, who.pod, 40000)
    follow(lab, who, "from_pod", answer, back, TO_POD, protocol=protocol, flags="SA")


def test_to_a_backend_elsewhere_and_back(lab, who, protocol):
    lab.service(who.node, 30080, [who.remote_pod], protocol=protocol, flags=ServiceFlag.NODE_PORT)
    request, seen = (who.client, 40000, who.node, 30080), (who.node, 40000, who.remote_pod, 8080)
    follow(lab, who, "from_uplink", request, seen, TO_NETWORK, protocol=protocol)
    answer, back = (who.remote_pod, 8080, who.node, 40000), (who.node, 30080, who.client, 40000)
    follow(lab, who, "from_uplink", answer, back, TO_NETWORK, protocol=protocol, flags="SA")


def test_to_a_backend_in_the_nodes_network_and_back(lab, who, protocol):
    lab.service(who.node, 30080, [who.node], protocol=protocol, flags=ServiceFlag.NODE_PORT)
    request, seen = (who.client, 40000, who.node, 30080), (who.client, 40000, who.node, 8080)
    follow(lab, who, "from_uplink", request, seen, IN, code=PASS, protocol=protocol)
    answer, back = (who.node, 8080, who.client, 40000), (who.node, 30080, who.client, 40000)
    follow(lab, who, "to_uplink", answer, back, IN, code=PASS, protocol=protocol, flags="SA")


def test_from_the_nodes_network_to_a_pod(lab, who, protocol):
    lab.service(who.service, 80, [who.node], protocol=protocol)
    request, seen = (who.pod, 40000, who.service, 80), (who.pod, 40000, who.node, 8080)
    follow(lab, who, "from_pod", request, seen, IN, code=PASS, protocol=protocol)
    answer, back = (who.node, 8080, who.pod, 40000), (who.service, 80, who.pod, 40000)
    follow(lab, who, "to_pod", answer, back, IN, code=PASS, protocol=protocol, flags="SA")


@contextmanager
def queued(lab) -> Iterator[list[bytes]]:
    """What arrives at the uplink once more, in the order in which it does; complete after the block."""
    found: list[bytes] = []
    to_us = bytes.fromhex(IN["dmac"].replace(":", ""))  # others are the kernel's own
    with inside(lab.path), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as capture:
        capture.bind(("eth0", ETH_P_ALL))
        while select.select([capture], [], [], 0)[0]:
            capture.recv(65536)
        yield found
        while select.select([capture], [], [], 0.05)[0]:
            frame = capture.recv(65536)
            if frame.startswith(to_us):
                found.append(frame)


def alike(who, protocol):
    """A payload whose pieces are of one length: a packet that grows is not summed again, but by its receiver."""
    header = 20 if protocol == "TCP" else 8
    return ("1234567 " * 400)[: {4: 3000, 6: 3144}[who.version] - header]


def held(lab, program, piece):
    result = lab.run(program, piece)
    hook = Hook[program.upper()]
    assert (result.code, dict(result.counted)) == (SHOT, {(hook, Verdict.QUEUED): 1})


def in_order(lab, program, sent, wanted, order, code=REDIRECT):
    """Those before the first piece are held, and queued again as they came once it is through."""
    early = order[: order.index(0)]
    for index in early:
        held(lab, program, sent[index])
    with queued(lab) as again:
        result = lab.run(program, sent[0])
        assert (result.code, result.packet) == (code, wanted[0])
    assert again == [sent[index] for index in early]
    for index in (*early, *order[order.index(0) + 1 :]):
        result = lab.run(program, sent[index])
        assert (result.code, result.packet) == (code, wanted[index])
    assert not list(lab.maps["held"].items())


@pytest.mark.parametrize("order", [order for order in ORDERS if order[0]], ids=str)
def test_what_overtakes_the_first_piece_follows_it(lab, who, protocol, order):
    """Through a NodePort to a pod elsewhere, and back."""
    lab.service(who.node, 30080, [who.remote_pod], protocol=protocol, flags=ServiceFlag.NODE_PORT)
    rows = [
        ((who.client, 40000, who.node, 30080), (who.node, 40000, who.remote_pod, 8080), "S"),
        ((who.remote_pod, 8080, who.node, 40000), (who.node, 30080, who.client, 40000), "SA"),
    ]
    for flow, seen, flags in rows:
        options = {"protocol": protocol, "flags": flags, "payload": alike(who, protocol)}
        sent = pieces(who, flow, IN, **options)
        in_order(lab, "from_uplink", sent, pieces(who, seen, TO_NETWORK, **options), order)


@pytest.mark.parametrize("where", ["this node", "another node"])
@pytest.mark.parametrize("order", [order for order in ORDERS if order[0]], ids=str)
def test_so_do_those_of_a_reply_to_a_pod(lab, who, protocol, order, where):
    """Whose sockets are left alone: its own packets carry the service's address."""
    backend, program = (
        (who.second_pod, "from_pod") if where == "this node" else (who.remote_pod, "from_uplink")
    )
    lab.service(who.service, 80, [backend], protocol=protocol)
    lab.run("from_pod", segment(who, (who.pod, 40000, who.service, 80), protocol=protocol))
    options = {"protocol": protocol, "flags": "SA", "payload": alike(who, protocol)}
    sent = pieces(who, (backend, 8080, who.pod, 40000), IN, **options)
    wanted = pieces(who, (who.service, 80, who.pod, 40000), TO_POD, **options)
    in_order(lab, program, sent, wanted, order)


@pytest.mark.parametrize("order", [order for order in ORDERS if order[0]], ids=str)
def test_and_those_of_a_pods_reply_to_a_client(lab, who, protocol, order):
    flags = ServiceFlag.NODE_PORT | ServiceFlag.LOCAL
    lab.service(who.node, 30080, [who.pod], local=[who.pod], protocol=protocol, flags=flags)
    lab.run("from_uplink", segment(who, (who.client, 40000, who.node, 30080), protocol=protocol))
    options = {"protocol": protocol, "flags": "SA", "payload": alike(who, protocol)}
    sent = pieces(who, (who.pod, 8080, who.client, 40000), IN, **options)
    wanted = pieces(who, (who.node, 30080, who.client, 40000), TO_NETWORK, **options)
    in_order(lab, "from_pod", sent, wanted, order)


@pytest.mark.parametrize(
    "kind", [ServiceFlag.CLUSTER_IP, ServiceFlag.EXTERNAL_IP, ServiceFlag.LOAD_BALANCER]
)
@pytest.mark.parametrize("program", ["from_pod", "from_uplink"])
def test_later_pieces_to_any_service_address_wait_for_the_first(lab, who, kind, program):
    lab.service(who.service, 80, [who.second_pod], protocol="UDP", flags=kind)
    client = who.pod if program == "from_pod" else who.client
    first, second, *_ = pieces(who, (client, 40000, who.service, 80), IN, protocol="UDP")
    held(lab, program, second)
    with queued(lab) as again:
        lab.run(program, first)
    if kind != ServiceFlag.CLUSTER_IP or program == "from_pod":
        assert again == [second]


def test_pieces_of_the_nodes_own_datagrams_wait_too(lab, who):
    """Nobody knows yet that they are."""
    lab.service(who.node, 30080, [who.remote_pod], protocol="UDP", flags=ServiceFlag.NODE_PORT)
    flow = (who.client, 40000, who.node, 53)
    first, second, third, *_ = pieces(who, flow, IN, protocol="UDP")
    held(lab, "from_uplink", second)
    with queued(lab) as again:
        result = lab.run("from_uplink", first)
        assert (result.code, result.packet) == (PASS, first)
    assert again == [second]
    for piece in (second, third):
        assert (lab.run("from_uplink", piece).code) == PASS


def test_pieces_of_other_protocols_do_too(lab, who):
    number, flow = (1, 58)[who.version == 6], (who.client, 40000, who.node, 53)
    sent = pieces(who, flow, IN, protocol="UDP")
    at, other = (23, 20)[who.version == 6], []
    for piece in sent:
        changed = bytearray(piece)
        changed[14 + 40 if who.version == 6 else at] = number
        other.append(bytes(changed))
    held(lab, "from_uplink", other[1])
    with queued(lab) as again:
        assert lab.run("from_uplink", other[0]).code == PASS
    assert again == [other[1]]


def test_more_than_a_datagram_can_have_is_not_held(lab, who):
    lab.service(who.service, 80, [who.second_pod], protocol="UDP")
    _, second, *_ = pieces(who, (who.pod, 40000, who.service, 80), IN, protocol="UDP")
    for _ in range(64):
        held(lab, "from_pod", second)
    counted = lab.run("from_pod", second).counted
    assert dict(counted) == {(Hook.FROM_POD, Verdict.DROP_FRAGMENT): 1}


def test_without_its_flow_a_later_piece_is_dropped(lab, who):
    lab.service(who.service, 80, [who.second_pod], protocol="UDP")
    first, second, *_ = pieces(who, (who.pod, 40000, who.service, 80), IN, protocol="UDP")
    lab.run("from_pod", first)
    lab.expire_flows()
    result = lab.run("from_pod", second)
    assert dict(result.counted) == {(Hook.FROM_POD, Verdict.DROP_FRAGMENT): 1}


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_what_no_service_has_to_do_with_arrives_as_it_was(lab, who, protocol, order):
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
        wanted = pieces(who, flow, where, **options)
        in_order(lab, program, pieces(who, flow, IN, **options), wanted, order, code)


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_what_the_nodes_stack_sends_keeps_any_order(lab, who, protocol, order):
    lab.service(who.service, 80, [who.second_pod], protocol=protocol)
    rows = [
        ("to_uplink", (who.node, 40000, who.client, 53)),
        ("to_pod", (who.node, 40000, who.pod, 53)),
    ]
    for program, flow in rows:
        sent = pieces(who, flow, IN, protocol=protocol)
        for index in order:
            result = lab.run(program, sent[index])
            assert (result.code, result.packet) == (PASS, sent[index]), (program, flow)
    assert not list(lab.maps["fragments"].items()), "nothing is kept of it"


def test_an_identification_that_is_used_again(lab, who):
    """Two connections of the same hosts, one translated: each datagram is its own connection's."""
    lab.service(who.node, 30080, [who.pod], protocol="UDP", flags=ServiceFlag.NODE_PORT)
    translated, plain = (who.client, 40000, who.node, 30080), (who.client, 40000, who.node, 53)
    seen = (who.node, 40000, who.pod, 8080)
    for _ in range(2):
        follow(lab, who, "from_uplink", translated, seen, TO_POD, protocol="UDP")
        follow(lab, who, "from_uplink", plain, plain, IN, code=PASS, protocol="UDP")


def test_datagrams_at_the_same_time(lab, who):
    """Of two hosts, to two services: each piece follows its own."""
    ends = ((who.second_pod, TO_POD), (who.remote_pod, TO_NETWORK))
    for number, (backend, _) in enumerate(ends):
        lab.service(who.service, 80 + number, [backend], protocol="UDP")
    flows = [(who.pod, 40000 + number, who.service, 80 + number % 2) for number in range(4)]
    seen = [(who.pod, 40000 + number, ends[number % 2][0], 8080) for number in range(4)]
    sent = [pieces(who, flow, IN, protocol="UDP", number=9 + i) for i, flow in enumerate(flows)]
    wanted = [
        pieces(who, flow, ends[i % 2][1], protocol="UDP", number=9 + i)
        for i, flow in enumerate(seen)
    ]
    for together, expected in zip(zip(*sent, strict=True), zip(*wanted, strict=True), strict=True):
        assert [lab.run("from_pod", piece).packet for piece in together] == list(expected)


def test_ports_are_kept_for_as_long_as_pieces_may_come(lab, who):
    lab.service(who.node, 30080, [who.pod], protocol="UDP", flags=ServiceFlag.NODE_PORT)
    first, second, *_ = pieces(who, (who.client, 40000, who.node, 30080), IN, protocol="UDP")
    lab.run("from_uplink", first)
    ((key, value),) = lab.maps["fragments"].items()
    ports = layout.DatagramPorts.unpack(value)
    assert (ports.source_port, ports.destination_port, ports.protocol) == (40000, 30080, 17)
    lab.maps["fragments"].update(key, ports._replace(expires_ns=1).pack())
    held(lab, "from_uplink", second)


def test_an_ipv6_datagram_of_one_piece_is_no_fragment(lab):
    """RFC 6946."""
    lab.service(V6.service, 80, [V6.second_pod], protocol="UDP")
    packet = segment(V6, (V6.pod, 40000, V6.service, 80), protocol="UDP")
    udp = packet[UDP]
    packet[IPv6].remove_payload()
    result = lab.run("from_pod", packet / IPv6ExtHdrFragment(id=5) / udp)
    assert IPv6(result.packet[14:]).dst == V6.second_pod
    assert not list(lab.maps["fragments"].items())


def test_a_first_piece_without_a_whole_header_is_malformed(lab):
    """RFC 1858: it could hide its flags in the second piece."""
    lab.service(V4.service, 80, [V4.second_pod])
    packet = segment(V4, (V4.pod, 40000, V4.service, 80), payload="")
    whole = bytes(packet[TCP])
    packet[IP].remove_payload()
    packet[IP].flags, packet[IP].proto = "MF", 6
    result = lab.run("from_pod", packet / whole[:8])
    assert dict(result.counted) == {(Hook.FROM_POD, Verdict.DROP_MALFORMED): 1}
