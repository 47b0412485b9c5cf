# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubypass.model.address import (
    UNSPECIFIED,
    family,
    format_address,
    format_address_port,
    is_ipv4,
    is_ipv6_link_local,
    is_loopback,
    parse_address,
)
from kubypass.model.cidr import format_cidr, parse_cidr
from kubypass.model.protocol import Protocol


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.233.0.1", "10.233.0.1"),
        ("172.30.0.041", "172.30.0.41"),
        ("010.001.000.255", "10.1.0.255"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.010", "10.0.0.10"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::", "::"),
    ],
)
def test_addresses_are_read_as_kubernetes_reads_them(text: str, canonical: str) -> None:
    address = parse_address(text)
    assert len(address) == 16
    assert format_address(address) == canonical


@pytest.mark.parametrize(
    "text",
    ["", "None", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.-4", " 1.2.3.4", "1.2.3.4/32",
     "fe80::1%eth0", "1::2::3", "host", "1.2.3.4\0", "१.2.3.4", "\ud800", "99999999999.1.1.1"],
)  # fmt: skip
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an IP address"):
        parse_address(text)


def test_families() -> None:
    assert family(parse_address("1.2.3.4")) == 4
    assert family(parse_address("::1.2.3.4")) == 6
    assert is_ipv4(UNSPECIFIED[4])
    assert not is_ipv4(UNSPECIFIED[6])
    assert format_address(UNSPECIFIED[4]) == "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fe80::1", True),
        ("fe90::1", True),
        ("febf:ffff::1", True),
        ("fe7f::1", False),
        ("fec0::1", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("169.254.1.1", False),
        ("254.128.0.1", False),
    ],
)
def test_link_local_is_a_prefix_of_ten_bits(text: str, expected: bool) -> None:
    assert is_ipv6_link_local(parse_address(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("0.0.0.0", False), ("::", False)],  # noqa: S104
)
def test_unspecified_addresses_are_no_loopback(text: str, expected: bool) -> None:
    assert is_loopback(parse_address(text)) == expected


def test_endpoints_are_written_as_cilium_writes_them() -> None:
    assert format_address_port(parse_address("1.2.3.4"), 80, Protocol.TCP) == "1.2.3.4:80/TCP"
    assert format_address_port(parse_address("::1"), 53, Protocol.UDP) == "[::1]:53/UDP"
    assert format_address_port(parse_address("::1"), 53) == "[::1]:53"


@given(st.ip_addresses())
def test_every_address_survives(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    parsed = parse_address(str(address))
    assert parse_address(format_address(parsed)) == parsed
    if address.version == 4:
        assert parsed[12:] == address.packed


@given(st.ip_addresses(), st.data())
def test_networks_contain_what_ipaddress_says(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, data: st.DataObject
) -> None:
    if getattr(address, "ipv4_mapped", None):
        return
    prefix = data.draw(st.integers(0, address.max_prefixlen))
    network = ipaddress.ip_network(f"{address}/{prefix}", strict=False)
    cidr = parse_cidr(f"{address}/{prefix}")
    if getattr(network.network_address, "ipv4_mapped", None) is None:
        assert format_cidr(cidr) == str(network)
    assert cidr.contains(parse_address(str(address)))
    other = data.draw(st.ip_addresses(v=address.version))
    if getattr(other, "ipv4_mapped", None) is None:
        assert cidr.contains(parse_address(str(other))) == (other in network)


def test_networks() -> None:
    pods = parse_cidr(" 10.233.64.7/18 ")
    assert str(pods) == "10.233.64.0/18"
    assert pods.overlaps(parse_cidr("10.233.0.0/16"))
    assert parse_cidr("10.233.0.0/16").overlaps(pods)
    assert not pods.overlaps(parse_cidr("10.233.0.0/18"))
    assert not parse_cidr("::/0").contains(parse_address("10.0.0.1"))
    assert not parse_cidr("0.0.0.0/0").contains(parse_address("::1"))


@pytest.mark.parametrize(
    "text", ["10.0.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0.0/²", "/8"]
)
def test_other_networks_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        parse_cidr(text)
