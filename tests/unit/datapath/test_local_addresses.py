# SPDX-License-Identifier: Apache-2.0
"""The entries that tell whose addresses a device may send from."""

from __future__ import annotations

import pytest

from kubypass.datapath import layout
from kubypass.datapath.local_addresses import (
    device_entry,
    empty_devices,
    foreign_entry,
    node_entries,
    pod_entries,
)
from kubypass.model.address import format_address, link_local_address, parse_address
from kubypass.model.constants import NETNS_UNKNOWN, POD_DEVICES
from kubypass.model.pod import Pod

MAC = "4a:ab:f7:61:fa:c8"


def pod(*addresses: str) -> Pod:
    return Pod("default", "web-0", "", tuple(map(parse_address, addresses)), "lxc1", MAC)


@pytest.mark.parametrize(
    ("mac", "expected"),
    [
        (MAC, "fe80::48ab:f7ff:fe61:fac8"),  # as Linux makes it
        ("02:00:00:00:00:01", "fe80::ff:fe00:1"),
        ("AA:BB:CC:00:11:22", "fe80::a8bb:ccff:fe00:1122"),
    ],
)
def test_the_link_local_address_of_an_interface(mac: str, expected: str) -> None:
    assert format_address(link_local_address(mac)) == expected


@pytest.mark.parametrize(
    ("addresses", "ipv4", "ipv6"),
    [
        (["10.1.0.1", "fd00::1"], "10.1.0.1", "fd00::1"),
        (["fd00::1", "10.1.0.1"], "10.1.0.1", "fd00::1"),
        (["10.1.0.1", "10.1.0.2", "fd00::1", "fd00::2"], "10.1.0.1", "fd00::1"),
        (["10.1.0.1"], "10.1.0.1", "10.1.0.1"),
        (["fd00::1"], "fd00::1", "fd00::1"),
    ],
)
def test_a_device_has_one_address_of_each_family(
    addresses: list[str], ipv4: str, ipv6: str
) -> None:
    ((key, value),) = device_entry(pod(*addresses), POD_DEVICES + 7).items()
    found = layout.PodDevice.unpack(value)
    assert int.from_bytes(key, "little") == 7
    assert found.ifindex == POD_DEVICES + 7
    assert (found.ipv4, found.ipv6) == (parse_address(ipv4), parse_address(ipv6))
    assert found.link_local == link_local_address(MAC)


def test_no_address_is_no_entry() -> None:
    """An entry of zeros would let the pod send as nobody, `::`."""
    assert device_entry(pod(), 7) == {}
    assert pod_entries(pod(), 7, bytes(6), NETNS_UNKNOWN) == {}


def test_every_slot_is_written_where_there_is_no_pod() -> None:
    """An array keeps what was there: the slot of a device that is gone must not stay."""
    empty = empty_devices()
    assert len(empty) == POD_DEVICES
    assert device_entry(pod("10.1.0.1"), POD_DEVICES - 1).keys() <= empty.keys()
    assert {layout.PodDevice.unpack(value).ifindex for value in empty.values()} == {0}


def test_all_addresses_of_a_pod_lead_to_its_device_and_the_nodes_to_none() -> None:
    found = pod_entries(pod("10.1.0.1", "10.1.0.2", "fd00::1"), 9, bytes(6), NETNS_UNKNOWN)
    assert {layout.LocalAddress.unpack(value).ifindex for value in found.values()} == {9}
    assert len(found) == 3
    here = parse_address("192.168.1.1")
    (entry,) = node_entries([here], [here]).values()
    assert layout.LocalAddress.unpack(entry).ifindex == 0, "no device sends as the node"


def test_a_router_in_a_pod_is_known_by_its_whole_index() -> None:
    (one,), (other,) = foreign_entry(7), foreign_entry(POD_DEVICES + 7)
    assert one != other
