# SPDX-License-Identifier: Apache-2.0
"""Whose frames XDP handles, and by which device they leave."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scapy.layers.l2 import Ether

from kubypass.model.constants import XDP_DEVICES
from kubypass.model.verdict import RedirectDomain, ServiceFlag
from tests.packet.at_driver import by_driver, by_uplink, request
from tests.packet.driver import REDIRECT
from tests.packet.lab import Lab
from tests.packet.map_entries import drive_devices
from tests.packet.packets import TO_NETWORK, Addresses, segment
from tests.packet.uplink import (
    NO_SECOND_UPLINK,
    SECOND_GATEWAY_MAC,
    SECOND_MAC,
    SECOND_UPLINK,
    run_inside,
    uplink_index,
)

NODE_PORT = ServiceFlag.NODE_PORT
JUMBO = 8000


@pytest.fixture
def jumbo(netns: str) -> Iterator[None]:
    for name in ("eth0", "far"):
        run_inside(netns, "ip", "link", "set", name, "mtu", "9000")
    yield
    for name in ("eth0", "far"):
        run_inside(netns, "ip", "link", "set", name, "mtu", "1500")


@pytest.mark.usefixtures("jumbo")
def test_a_frame_in_several_buffers(driver: Lab, who: Addresses, protocol: str) -> None:
    """A frame of more than a page (Linux 5.18); where XDP sees its first buffer only, it is from_uplink's."""
    driver.service(who.node, 30080, [who.remote_pod], protocol=protocol, flags=NODE_PORT)
    sent = request(who, protocol=protocol, payload="x" * JUMBO)
    expected = segment(
        who, (who.node, 40000, who.remote_pod, 8080), protocol=protocol, payload="x" * JUMBO,
        **TO_NETWORK,
    )  # fmt: skip
    assert by_driver(driver, sent).packet == bytes(expected)


def test_a_device_that_takes_no_part(driver: Lab, who: Addresses) -> None:
    """An empty table switches XDP off, wherever its program is attached."""
    driver.service(who.node, 30080, [who.remote_pod], flags=NODE_PORT)
    drive_devices(driver.maps)
    by_uplink(driver, request(who))


def test_a_device_whose_place_another_has(driver: Lab, who: Addresses) -> None:
    driver.service(who.node, 30080, [who.remote_pod], flags=NODE_PORT)
    drive_devices(driver.maps, uplink_index() + XDP_DEVICES)
    by_uplink(driver, request(who))


SECOND = {4: ("192.168.2.1", "10.233.99.14"), 6: ("fd00:c0a8:2::1", "fd00:10:233:99::14")}


@pytest.fixture
def second_uplink(netns: str) -> Iterator[int]:
    run_inside(netns, "ip", "-batch", "-", lines=SECOND_UPLINK)
    for gateway, backend in SECOND.values():
        run_inside(netns, "ip", "route", "add", backend, "via", gateway)
    try:
        yield int(run_inside(netns, "ip", "-o", "link", "show", "eth1").split(":")[0])
    finally:
        run_inside(netns, "ip", "-batch", "-", lines=NO_SECOND_UPLINK)


def test_another_uplink(driver: Lab, who: Addresses, second_uplink: int) -> None:
    """It is redirected there if that device takes such frames; else it is from_uplink's."""
    backend = SECOND[who.version][1]
    driver.service(who.node, 30080, [backend], flags=NODE_PORT)
    by_uplink(driver, request(who))
    drive_devices(driver.maps, uplink_index(), second_uplink, domain=RedirectDomain.NONE)
    by_uplink(driver, request(who))
    drive_devices(driver.maps, uplink_index(), second_uplink)
    result = by_driver(driver, request(who))
    assert Ether(result.packet).dst == SECOND_GATEWAY_MAC
    assert Ether(result.packet).src == SECOND_MAC
    assert result.driver_code == REDIRECT
