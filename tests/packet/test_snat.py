# SPDX-License-Identifier: Apache-2.0
"""Source ports and addresses of connections through the node to backends elsewhere."""

from __future__ import annotations

import ipaddress
import random
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from kubypass.datapath import layout
from kubypass.datapath.snat_failures import read_snat_failures
from kubypass.kernel.features import probe_features
from kubypass.kernel.netns import inside
from kubypass.model.address import parse_address
from kubypass.model.verdict import FlowDirection, FlowState, Hook, ServiceFlag, Verdict
from tests.packet.lab import (
    GATEWAY_MAC,
    NODE_MAC,
    NUMBERS,
    REDIRECT,
    SHOT,
    V4,
    Addresses,
    Lab,
    config,
    segment,
)

NODE_PORT = 30080
FEW = {"snat_port_first": 61000, "snat_ports": 40}
FOREVER_NS = 1 << 62
SECOND_MAC, SECOND_GATEWAY_MAC = "02:00:00:00:02:31", "02:00:00:00:02:01"


LOADED: dict[layout.Config, Lab] = {}


def empty(place: str, **constants: object) -> Lab:
    """Programs with these constants, loaded once; a session has one place."""
    wanted = config(**constants)
    if wanted not in LOADED:
        LOADED[wanted] = Lab(place)
        LOADED[wanted].load(wanted, flows=65536)
    LOADED[wanted].reset()
    return LOADED[wanted]


def made(place: str, who: Addresses, protocol: str = "TCP", **constants: object) -> Lab:
    """A NodePort with one backend elsewhere."""
    lab = empty(place, **constants)
    lab.service(
        who.node, NODE_PORT, [who.remote_pod], protocol=protocol, flags=ServiceFlag.NODE_PORT
    )
    return lab


def clients(who: Addresses, count: int) -> list[str]:
    first = ipaddress.ip_address("198.18.0.1" if who.version == 4 else "2001:db8:bee::1")
    return [str(first + number) for number in range(count)]


def tuple_of(packet: bytes) -> tuple[str, int, str, int]:
    parsed = (IP if packet[12:14] == b"\x08\x00" else IPv6)(packet[14:])
    layer = parsed[TCP] if TCP in parsed else parsed[UDP]
    return parsed.src, layer.sport, parsed.dst, layer.dport


def ask(lab: Lab, who: Addresses, client: tuple[str, int], **options: object) -> int:
    """A client's packet to the NodePort; its source port towards the backend, 0 if it was dropped."""
    result = lab.run("from_uplink", segment(who, (*client, who.node, NODE_PORT), **options))
    if result.code == SHOT:
        return 0
    source, port, *backend = tuple_of(result.packet)
    assert (source, backend) == (who.node, [who.remote_pod, 8080])
    return port


def answer(lab: Lab, who: Addresses, port: int, **options: object) -> tuple[str, int]:
    """The backend's packet to one of these ports; which client gets it."""
    options = {"flags": "SA", **options}
    result = lab.run("from_uplink", segment(who, (who.remote_pod, 8080, who.node, port), **options))
    assert result.code == REDIRECT, result.counted
    source, source_port, client, client_port = tuple_of(result.packet)
    assert (source, source_port) == (who.node, NODE_PORT)
    return client, client_port


def take(lab: Lab, who: Addresses, port: int, protocol: str = "TCP") -> None:
    """A connection of before has this port."""
    node, backend = parse_address(who.node), parse_address(who.remote_pod)
    key = layout.Tuple(backend, node, 8080, port, NUMBERS[protocol])
    value = layout.Flow(
        node, parse_address(who.client), NODE_PORT, 1, 0, 0, 1, FlowDirection.REPLY, 0, FOREVER_NS
    )
    lab.maps["flows"].update(key.pack(), value.pack())


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_a_storm_of_clients_with_the_same_ports(place, who, protocol):
    """No two connections share a key, and every answer goes to its own client."""
    lab = made(place, who, protocol)
    asked = [(host, port) for port in (40000, 40001, 61007) for host in clients(who, 400)]
    random.shuffle(asked)
    ports = {client: ask(lab, who, client, protocol=protocol) for client in asked}
    assert len(set(ports.values())) == len(asked)
    assert 0 not in ports.values()
    assert all(port in {40000, 40001} or port >= 61000 for port in ports.values())
    assert {40000, 40001, 61007} <= set(ports.values()), "a port that is free stays"
    for client, port in ports.items():
        assert answer(lab, who, port, protocol=protocol) == client


def test_exhaustion_is_a_drop_that_is_counted_by_backend(place, who):
    lab = made(place, who, **FEW)
    sources = clients(who, 45)
    ports = [ask(lab, who, (host, 40000)) for host in sources]
    assert sorted(ports[:41]) == [40000, *range(61000, 61040)]
    assert ports[41:] == [0] * 4
    (failure,) = read_snat_failures(lab.maps["snat_failures"])
    assert failure[:4] == (4, parse_address(who.remote_pod), 8080, NUMBERS["TCP"])
    assert time.monotonic_ns() - failure.last_ns < 10 * 10**9
    result = lab.run("from_uplink", segment(who, (sources[44], 40000, who.node, NODE_PORT)))
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.DROP_NO_SNAT_PORT): 1}
    assert ask(lab, who, (sources[44], 40001)) == 40001, "another port of its own is free"


@pytest.mark.parametrize("ending", ["fin", "reset by the client", "refused by the backend"])
def test_the_port_of_a_connection_that_ended_comes_back(place, who, ending):
    """After the time for closed connections, here none: not after that for established ones."""
    lab = made(place, who, **FEW, tcp_fin_timeout_ns=1)
    sources = clients(who, 43)
    ports = {host: ask(lab, who, (host, 40000)) for host in sources[:41]}
    closed, late = sources[20], sources[42]
    client = (closed, 40000)
    if ending == "refused by the backend":
        answer(lab, who, ports[closed], flags="RA")
    else:
        answer(lab, who, ports[closed])
        ask(lab, who, client, flags="A")
        assert ask(lab, who, (late, 40000)) == 0
        if ending == "fin":
            ask(lab, who, client, flags="FA")
            assert ask(lab, who, (late, 40000)) == 0, "one side has closed"
            answer(lab, who, ports[closed], flags="FA")
        else:
            ask(lab, who, client, flags="R")
    deadline = time.monotonic() + 5
    while not (port := ask(lab, who, (late, 40000))):
        assert time.monotonic() < deadline, "the clock has to tick once"
    assert port == ports[closed]
    assert answer(lab, who, port) == (late, 40000)


def test_a_late_reset_of_an_old_connection_leaves_the_new_one_of_its_port_alone(place, who):
    lab = empty(place)
    other = who.remote_pod.replace("14", "15")
    lab.service(who.node, NODE_PORT, [who.remote_pod, other], flags=ServiceFlag.NODE_PORT)
    request, backends = (who.client, 40000, who.node, NODE_PORT), []
    while len(set(backends)) < 2:
        for flags in ("S", "A"):
            result = lab.run("from_uplink", segment(who, request, flags=flags))
        backends.append(tuple_of(result.packet)[2])
    old, new = backends[0], backends[-1]
    lab.run("from_uplink", segment(who, (new, 8080, who.node, 40000), flags="SA"))
    lab.run("from_uplink", segment(who, (old, 8080, who.node, 40000), flags="R"))
    node, client = parse_address(who.node), parse_address(who.client)
    flow = lab.flows()[layout.Tuple(client, node, 40000, NODE_PORT, NUMBERS["TCP"])]
    assert (flow.destination, flow.state) == (parse_address(new), FlowState.ESTABLISHED)
    assert flow.expires_ns - time.monotonic_ns() > 7000 * 10**9


@pytest.mark.parametrize("taken", ["at random", "all in a stretch"])
def test_nine_ports_of_ten_may_be_taken(place, who, taken):
    lab = made(place, who, snat_ports=1000)
    ports = range(61000, 62000)
    gone = random.sample(ports, 900) if taken == "at random" else ports[:900]
    for port in [40000, *gone]:
        take(lab, who, port)
    for host in clients(who, 60):
        port = ask(lab, who, (host, 40000))
        assert port in ports
        assert port not in gone
        take(lab, who, port)
        assert not read_snat_failures(lab.maps["snat_failures"])


def test_the_extra_range_follows_on_the_first(place, who):
    lab = made(place, who, snat_ports=3, snat_extra_first=20000, snat_extra_ports=4)
    ports = {ask(lab, who, (host, 40000)) for host in clients(who, 8)}
    assert ports == {40000, 61000, 61001, 61002, 20000, 20001, 20002, 20003}


@pytest.mark.parametrize("port", [NODE_PORT, 32768, 50000, 61000, 8080])
def test_a_clients_own_port_is_kept_whatever_it_is(place, who, port):
    """A NodePort (the client's is on its own host), an ephemeral port, one of ours."""
    lab = made(place, who)
    client = (clients(who, 1)[0], port)
    assert ask(lab, who, client) == port
    assert answer(lab, who, port) == client
    other = (clients(who, 2)[1], port)
    second = ask(lab, who, other)
    assert second >= 61000
    assert answer(lab, who, second) == other


def test_a_port_of_the_systems_own_is_not_kept(place, who):
    lab = made(place, who)
    assert ask(lab, who, (who.client, 1023)) >= 61000
    assert ask(lab, who, (who.client, 1024)) == 1024


@contextmanager
def node_socket(place: str, who: Addresses, protocol: str, port: int) -> Iterator[None]:
    """A socket of the node's own on its way to the backend."""
    family = socket.AF_INET if who.version == 4 else socket.AF_INET6
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    with inside(place), socket.socket(family, kind) as own:
        own.setblocking(False)
        own.bind((who.node, port))
        own.connect_ex((who.remote_pod, 8080))
        yield


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_a_port_that_a_socket_of_the_node_has_is_not_kept(place, who, protocol):
    lab = made(place, who, protocol)
    with node_socket(place, who, protocol, 40000):
        port = ask(lab, who, (who.client, 40000), protocol=protocol)
        assert port >= 61000
        assert answer(lab, who, port, protocol=protocol) == (who.client, 40000)
    with node_socket(place, who, protocol, port + 1):
        other = ask(lab, who, (clients(who, 1)[0], 40000), protocol=protocol)
        third = ask(lab, who, (clients(who, 2)[1], 40000), protocol=protocol)
    assert other == 40000, "the socket has gone"
    assert third == port + 2, "nor is one drawn that a socket has"


_SECOND_DEVICE = f"""
link add eth1 address {SECOND_MAC} type veth peer name far1
link set eth1 up
link set far1 up
addr add 192.168.2.31/24 dev eth1
addr add fd00:c0a8:2::31/64 dev eth1 nodad
addr add 192.168.1.131/32 dev eth0
addr add fd00:c0a8:1::131/128 dev eth0 nodad preferred_lft 0
neigh add 192.168.2.1 lladdr {SECOND_GATEWAY_MAC} dev eth1 nud permanent
neigh add fd00:c0a8:2::1 lladdr {SECOND_GATEWAY_MAC} dev eth1 nud permanent
neigh add 192.168.2.9 lladdr {SECOND_GATEWAY_MAC} dev eth1 nud permanent
neigh add fd00:c0a8:2::9 lladdr {SECOND_GATEWAY_MAC} dev eth1 nud permanent
route add 10.233.68.0/24 via 192.168.2.1
route add fd00:10:233:68::/64 via fd00:c0a8:2::1
route replace 10.233.67.0/24 via 192.168.1.1 src 192.168.1.131
route replace fd00:10:233:67::/64 via fd00:c0a8:1::1 src fd00:c0a8:1::131
route add default via 192.168.2.1 table 2
route add default via fd00:c0a8:2::1 table 2
"""


@pytest.fixture
def second_device(place: str) -> Iterator[str]:
    """Another uplink, with routes that leave by it, and one with a preferred source."""
    where = ["ip", "-n", Path(place).name]
    subprocess.run([*where, "-batch", "-"], input=_SECOND_DEVICE, text=True, check=True)
    rules = (["-4", "192.168.2.31"], ["-6", "fd00:c0a8:2::31"])
    for version, source in rules:
        subprocess.run([*where, version, "rule", "add", "from", source, "table", "2"], check=True)
    yield place
    for version, _ in rules:
        subprocess.run([*where, version, "rule", "delete", "table", "2"], check=True)
    undo = "link delete eth1\naddr delete 192.168.1.131/32 dev eth0\n"
    undo += "addr delete fd00:c0a8:1::131/128 dev eth0\n"
    subprocess.run([*where, "-batch", "-"], input=undo, text=True, check=True)


FIRST = {"smac": NODE_MAC, "dmac": GATEWAY_MAC, "ttl": 63}
SECOND = {"smac": SECOND_MAC, "dmac": SECOND_GATEWAY_MAC, "ttl": 63}


@pytest.mark.parametrize(
    ("network", "source", "device"),
    [(65, "primary", FIRST), (68, "second", SECOND), (67, "preferred", FIRST)],
    ids=["the default route", "another device", "a preferred source"],
)
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_the_source_is_that_of_the_route(second_device, who, network, source, device, protocol):
    if source != "primary" and not probe_features().route_source:
        pytest.skip("this kernel's FIB lookup does not tell the source (Linux 6.7)")
    backend = who.remote_pod.replace("65", str(network))
    addresses = {
        "primary": who.node,
        "second": "192.168.2.31" if who.version == 4 else "fd00:c0a8:2::31",
        "preferred": "192.168.1.131" if who.version == 4 else "fd00:c0a8:1::131",
    }
    lab = empty(second_device)
    lab.service(who.node, NODE_PORT, [backend], protocol=protocol, flags=ServiceFlag.NODE_PORT)
    request = (who.client, 40000, who.node, NODE_PORT)
    result = lab.run("from_uplink", segment(who, request, protocol=protocol))
    sent_on = (addresses[source], 40000, backend, 8080)
    assert result.packet == bytes(segment(who, sent_on, protocol=protocol, **device))
    reply = (backend, 8080, addresses[source], 40000)
    result = lab.run("from_uplink", segment(who, reply, protocol=protocol, flags="SA"))
    back = (who.node, NODE_PORT, who.client, 40000)
    assert result.packet == bytes(segment(who, back, protocol=protocol, flags="SA", **FIRST))


def test_a_kernel_that_does_not_tell_the_source_has_the_primary_one(second_device, who):
    backend = who.remote_pod.replace("65", "68")
    lab = empty(second_device, route_source=0)
    lab.service(who.node, NODE_PORT, [backend], flags=ServiceFlag.NODE_PORT)
    result = lab.run("from_uplink", segment(who, (who.client, 40000, who.node, NODE_PORT)))
    assert result.packet == bytes(segment(who, (who.node, 40000, backend, 8080), **SECOND))


@pytest.mark.parametrize("near", [True, False], ids=["on the link", "behind a gateway"])
def test_a_client_of_the_second_uplink_gets_its_answers_there(second_device, who, near):
    """Rules by source see the address that the client has asked."""
    here = "192.168.2.31" if who.version == 4 else "fd00:c0a8:2::31"
    neighbour = "192.168.2.9" if who.version == 4 else "fd00:c0a8:2::9"
    client = neighbour if near else who.client
    lab = made(second_device, who)
    lab.local_address(here, 3)
    request = (client, 40000, here, NODE_PORT)
    result = lab.run("from_uplink", segment(who, request))
    assert tuple_of(result.packet) == (who.node, 40000, who.remote_pod, 8080)
    reply = (who.remote_pod, 8080, who.node, 40000)
    result = lab.run("from_uplink", segment(who, reply, flags="SA"))
    back = (here, NODE_PORT, client, 40000)
    assert result.packet == bytes(segment(who, back, flags="SA", **SECOND))


def test_a_backend_of_this_node_sees_the_primary_address(second_device):
    lab = empty(second_device)
    lab.service(V4.node, NODE_PORT, [V4.pod], flags=ServiceFlag.NODE_PORT)
    result = lab.run("from_uplink", segment(V4, (V4.client, 40000, V4.node, NODE_PORT)))
    assert tuple_of(result.packet) == (V4.node, 40000, V4.pod, 8080)
