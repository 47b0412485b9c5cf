# SPDX-License-Identifier: Apache-2.0
"""Which header a device's packets have, by the number of its type (ARPHRD_* of linux/if_arp.h)."""

from __future__ import annotations

import pytest

from kubypass.kernel.netlink import FrameHeader, Netlink, frame_header

PEER = b"\x0a\x00\x00\x02"
ETHERNET, NONE, OTHER = FrameHeader.ETHERNET, FrameHeader.NONE, FrameHeader.OTHER


@pytest.mark.parametrize(
    ("kind", "broadcast", "expected"),
    [
        pytest.param(1, b"\xff" * 6, ETHERNET, id="Ethernet, VLAN, bond, bridge, macvlan, tap"),
        pytest.param(772, bytes(6), ETHERNET, id="loopback"),
        pytest.param(0xFFFE, b"", NONE, id="tun, WireGuard, xfrm"),
        pytest.param(512, b"", NONE, id="PPP"),
        pytest.param(519, b"", NONE, id="raw IP of a modem"),
        pytest.param(768, bytes(4), NONE, id="ipip"),
        pytest.param(769, bytes(16), NONE, id="ip6tnl"),
        pytest.param(776, bytes(4), NONE, id="sit"),
        pytest.param(778, PEER, NONE, id="gre with another end"),
        pytest.param(778, bytes(4), OTHER, id="gre without one: outer headers come first"),
        pytest.param(778, b"\xe0\x00\x00\x05", OTHER, id="gre to a group"),
        pytest.param(823, b"\xfd" + bytes(15), NONE, id="ip6gre with another end"),
        pytest.param(823, bytes(16), OTHER, id="ip6gre without one"),
        pytest.param(32, b"\xff" * 20, OTHER, id="InfiniBand"),
        pytest.param(805, b"", OTHER, id="IEEE 802.15.4"),
    ],
)
def test_the_type_of_a_device_tells_its_header(
    kind: int, broadcast: bytes, expected: FrameHeader
) -> None:
    assert frame_header(kind, broadcast) == expected


def test_the_loopback_device_has_an_ethernet_header() -> None:
    with Netlink() as netlink:
        found = netlink.link("lo")
    assert found
    assert found.header == ETHERNET
