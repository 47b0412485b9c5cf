# SPDX-License-Identifier: Apache-2.0
"""Which entries of `socket_peers` are stale once backends went: kube-proxy's rule, over real maps."""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path

import pytest

from kubypass.agent.stale_sockets import StaleSockets
from kubypass.datapath import layout
from kubypass.datapath.changes import Changes
from kubypass.datapath.stale_peers import StalePeers
from kubypass.kernel.bpf import Map
from kubypass.model.address import UNSPECIFIED, Address, parse_address
from kubypass.model.verdict import BackendList, BackendState, ServiceFlag
from kubypass.settings.settings import Settings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes BPF maps")
HASH, ARRAY, LRU_HASH = 1, 2, 9
TCP, UDP = 6, 17
VIP, POD, OTHER_POD = (parse_address(f"10.0.0.{n}") for n in (1, 2, 3))
NODE = parse_address("192.168.1.31")
WEB, DNS = 7, 8
BACKENDS = 2000


@pytest.fixture
def maps() -> dict[str, Map]:
    peer, asked = layout.SOCKET_PEER_SIZE, layout.TRANSPORT_ADDRESS_SIZE
    return {
        "services": Map.create(HASH, layout.TRANSPORT_ADDRESS_SIZE, layout.SERVICE_SIZE, 64),
        "backends": Map.create(ARRAY, 4, layout.BACKEND_SIZE, BACKENDS),
        "socket_peers": Map.create(LRU_HASH, peer, asked, 4096),
    }


def frontend(
    maps: dict[str, Map], address: Address, port: int, service: int, *, others: int = 1
) -> None:
    """A frontend of a UDP service that has so many backends left."""
    value = layout.Service(service, 0, others, 0, ServiceFlag.CLUSTER_IP, 0, 0, 0)
    for protocol in (UDP, TCP):
        maps["services"].update(
            layout.TransportAddress(address, port, protocol).pack(), value.pack()
        )


def backend(service: int, address: Address = POD, protocol: int = UDP) -> bytes:
    state, lists = BackendState.ACTIVE, BackendList.CLUSTER
    return layout.Backend(address, service, 5353, protocol, state, lists, 1).pack()


def peer(
    maps: dict[str, Map], cookie: int, asked: Address, port: int = 53, protocol: int = UDP
) -> None:
    """A socket that asked for a service and was given POD."""
    key = layout.SocketPeer(cookie, POD, 5353, protocol).pack()
    maps["socket_peers"].update(key, layout.TransportAddress(asked, port, protocol).pack())


def remove(maps: dict[str, Map], peers: StalePeers, numbers: list[int], **written: bytes) -> None:
    """What the agent does: it notes the changes, then writes them."""
    added = {int(name.removeprefix("n")): value for name, value in written.items()}
    peers.note(Changes(backends=added, removed_backends=numbers))
    for number in numbers:
        value = added.get(number, bytes(layout.BACKEND_SIZE))
        maps["backends"].update(struct.pack("<I", number), value)


def stale(peers: StalePeers) -> list[int]:
    """Cookies that one pass finds."""
    return sorted(peer.cookie for found in peers.find() for peer in found)


def test_sockets_of_the_service_that_lost_the_backend(maps: dict[str, Map]) -> None:
    frontend(maps, VIP, 53, DNS)
    frontend(maps, VIP, 80, WEB)
    frontend(maps, UNSPECIFIED[4], 30053, DNS)
    maps["backends"].update(struct.pack("<I", 5), backend(DNS))
    peers = StalePeers(maps, {UDP})
    peer(maps, 1, VIP)
    peer(maps, 2, VIP, 80)
    peer(maps, 3, NODE, 30053)
    peer(maps, 4, parse_address("127.0.0.1"), 30053)
    peer(maps, 5, NODE, 30054)
    peer(maps, 6, VIP, protocol=TCP)
    remove(maps, peers, [5])
    assert peers
    assert stale(peers) == [1, 3, 4]
    assert not peers
    assert stale(peers) == []


def test_nothing_else_serves(maps: dict[str, Map]) -> None:
    frontend(maps, VIP, 53, DNS, others=0)
    maps["backends"].update(struct.pack("<I", 5), backend(DNS))
    peers = StalePeers(maps, {UDP})
    peer(maps, 1, VIP)
    remove(maps, peers, [5])
    assert stale(peers) == []


def test_the_service_is_gone(maps: dict[str, Map]) -> None:
    maps["backends"].update(struct.pack("<I", 5), backend(DNS))
    peers = StalePeers(maps, {UDP})
    peer(maps, 1, VIP)
    remove(maps, peers, [5])
    assert stale(peers) == []


def test_the_backend_is_back_before_the_pass(maps: dict[str, Map]) -> None:
    """The backend comes back by another identifier, or by the same one that was given away and taken again."""
    frontend(maps, VIP, 53, DNS)
    for number in (5, 6):
        maps["backends"].update(struct.pack("<I", 5), backend(DNS))
        peers = StalePeers(maps, {UDP})
        peer(maps, 1, VIP)
        remove(maps, peers, [5], n9=backend(DNS, OTHER_POD))
        remove(maps, peers, [], **{f"n{number}": backend(DNS)})
        assert stale(peers) == []


def test_its_identifier_is_another_backends_in_the_same_change(maps: dict[str, Map]) -> None:
    frontend(maps, VIP, 53, DNS)
    maps["backends"].update(struct.pack("<I", 5), backend(DNS))
    peers = StalePeers(maps, {UDP})
    peer(maps, 1, VIP)
    remove(maps, peers, [5], n5=backend(DNS, OTHER_POD))
    assert stale(peers) == [1]


@pytest.mark.parametrize("protocols", [{UDP}, {TCP, UDP}])
def test_tcp_where_asked(maps: dict[str, Map], protocols: set[int]) -> None:
    frontend(maps, VIP, 53, DNS)
    maps["backends"].update(struct.pack("<I", 5), backend(DNS, protocol=TCP))
    peers = StalePeers(maps, protocols)
    peer(maps, 1, VIP, protocol=TCP)
    remove(maps, peers, [5])
    assert stale(peers) == ([1] if TCP in protocols else [])


def test_many_at_once(maps: dict[str, Map]) -> None:
    frontend(maps, VIP, 53, DNS)
    numbers = list(range(1, BACKENDS))
    for number in numbers:
        address = Address(bytes(12) + number.to_bytes(4, "big"))
        maps["backends"].update(struct.pack("<I", number), backend(DNS, address))
    maps["backends"].update(struct.pack("<I", 1234), backend(DNS))
    for cookie in range(100):
        peer(maps, cookie, VIP)
    peers = StalePeers(maps, {UDP})
    remove(maps, peers, numbers)
    assert stale(peers) == list(range(100))
    peers.forget([])
    assert sum(1 for _ in maps["socket_peers"].items()) == 100


@pytest.mark.parametrize(("protocol", "looks"), [(UDP, True), (TCP, False)])
def test_no_pass_over_the_map_where_only_backends_of_other_protocols_go(
    maps: dict[str, Map], protocol: int, looks: bool
) -> None:
    sockets = StaleSockets(Settings(), Path("/"), maps, possible=True)
    maps["backends"].update(struct.pack("<I", 1), backend(WEB, protocol=protocol))
    sockets.note(Changes(removed_backends=[1]))
    assert (sockets.due < math.inf) == looks
