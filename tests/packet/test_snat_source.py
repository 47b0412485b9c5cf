# SPDX-License-Identifier: Apache-2.0
"""The source address of a connection through the node is that of the route to the backend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kubypass.kernel.features import probe_features
from kubypass.model.address import parse_address
from kubypass.model.constants import FAMILY_IPV4, FAMILY_IPV6
from kubypass.model.verdict import LocalAddressKind, ServiceFlag
from tests.packet.packets import GATEWAY_MAC, NODE_MAC, V4, V6, Addresses, segment
from tests.packet.snat import NODE_PORT, empty, made, tuple_of
from tests.packet.uplink import (
    NO_SECOND_UPLINK,
    SECOND_GATEWAY_MAC,
    SECOND_MAC,
    SECOND_UPLINK,
    run_inside,
)

_SECOND_DEVICE = f"""{SECOND_UPLINK}
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
def second_device(netns: str) -> Iterator[str]:
    """Another uplink, with routes that leave by it, and one with a preferred source."""
    run_inside(netns, "ip", "-batch", "-", lines=_SECOND_DEVICE)
    rules = (["-4", "192.168.2.31"], ["-6", "fd00:c0a8:2::31"])
    for version, source in rules:
        run_inside(netns, "ip", version, "rule", "add", "from", source, "table", "2")
    yield netns
    for version, _ in rules:
        run_inside(netns, "ip", version, "rule", "delete", "table", "2")
    run_inside(netns, "ip", "-batch", "-", lines=NO_SECOND_UPLINK)


FIRST = {"smac": NODE_MAC, "dmac": GATEWAY_MAC, "ttl": 63}
SECOND = {"smac": SECOND_MAC, "dmac": SECOND_GATEWAY_MAC, "ttl": 63}


@pytest.mark.parametrize(
    ("network", "source", "device"),
    [(65, "primary", FIRST), (68, "second", SECOND), (67, "preferred", FIRST)],
    ids=["the default route", "another device", "a preferred source"],
)
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_the_source_is_that_of_the_route(
    second_device: str,
    who: Addresses,
    network: int,
    source: str,
    device: dict[str, int | str],
    protocol: str,
) -> None:
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


def test_a_kernel_that_does_not_tell_the_source_has_the_primary_one(
    second_device: str, who: Addresses
) -> None:
    backend = who.remote_pod.replace("65", "68")
    lab = empty(second_device, route_source=0)
    lab.service(who.node, NODE_PORT, [backend], flags=ServiceFlag.NODE_PORT)
    result = lab.run("from_uplink", segment(who, (who.client, 40000, who.node, NODE_PORT)))
    assert result.packet == bytes(segment(who, (who.node, 40000, backend, 8080), **SECOND))


@pytest.mark.parametrize("own_family", [True, False], ids=["its family", "the other family"])
def test_a_node_with_one_address_of_the_family_asks_no_route(
    second_device: str, who: Addresses, own_family: bool
) -> None:
    """The agent knows it: what the kernel would choose from is the primary address alone."""
    if not probe_features().route_source:
        pytest.skip("this kernel's FIB lookup does not tell the source (Linux 6.7)")
    bits = {4: FAMILY_IPV4, 6: FAMILY_IPV6}
    other = 10 - who.version
    backend = who.remote_pod.replace("65", "67")
    preferred = "192.168.1.131" if who.version == 4 else "fd00:c0a8:1::131"
    lab = empty(second_device)
    node = {each.version: parse_address(each.node) for each in (V4, V6)}
    lab.primary(node, bits[who.version if own_family else other])
    lab.service(who.node, NODE_PORT, [backend], flags=ServiceFlag.NODE_PORT)
    result = lab.run("from_uplink", segment(who, (who.client, 40000, who.node, NODE_PORT)))
    source = who.node if own_family else preferred
    assert result.packet == bytes(segment(who, (source, 40000, backend, 8080), **FIRST))
    lab.primary(node)


@pytest.mark.parametrize("near", [True, False], ids=["on the link", "behind a gateway"])
def test_a_client_of_the_second_uplink_gets_its_answers_there(
    second_device: str, who: Addresses, near: bool
) -> None:
    """Rules by source see the address that the client has asked."""
    here = "192.168.2.31" if who.version == 4 else "fd00:c0a8:2::31"
    neighbour = "192.168.2.9" if who.version == 4 else "fd00:c0a8:2::9"
    client = neighbour if near else who.client
    lab = made(second_device, who)
    lab.local_address(here, LocalAddressKind(3))
    request = (client, 40000, here, NODE_PORT)
    result = lab.run("from_uplink", segment(who, request))
    assert tuple_of(result.packet) == (who.node, 40000, who.remote_pod, 8080)
    reply = (who.remote_pod, 8080, who.node, 40000)
    result = lab.run("from_uplink", segment(who, reply, flags="SA"))
    back = (here, NODE_PORT, client, 40000)
    assert result.packet == bytes(segment(who, back, flags="SA", **SECOND))


def test_a_backend_of_this_node_sees_the_primary_address(second_device: str) -> None:
    lab = empty(second_device)
    lab.service(V4.node, NODE_PORT, [V4.pod], flags=ServiceFlag.NODE_PORT)
    result = lab.run("from_uplink", segment(V4, (V4.client, 40000, V4.node, NODE_PORT)))
    assert tuple_of(result.packet) == (V4.node, 40000, V4.pod, 8080)
