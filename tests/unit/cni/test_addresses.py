# SPDX-License-Identifier: Apache-2.0
"""Which address the next pod gets."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubypass.cni.addresses import capacity, next_address
from kubypass.model.address import Address, format_address, parse_address
from kubypass.model.cidr import parse_cidr


def take(cidr: str, used: list[str], after: str = "") -> str | None:
    found = next_address(
        parse_cidr(cidr), {parse_address(a) for a in used}, parse_address(after) if after else None
    )
    return format_address(found) if found else None


@pytest.mark.parametrize(
    ("cidr", "used", "after", "expected"),
    [
        ("10.1.2.0/24", [], "", "10.1.2.2"),
        ("10.1.2.0/24", ["10.1.2.2"], "", "10.1.2.3"),
        ("10.1.2.0/24", [], "10.1.2.2", "10.1.2.3"),
        ("10.1.2.0/24", ["10.1.2.3", "10.1.2.4"], "10.1.2.2", "10.1.2.5"),
        ("10.1.2.0/24", [], "10.1.2.254", "10.1.2.2"),
        ("10.1.2.0/24", [], "10.9.9.9", "10.1.2.2"),
        ("10.1.2.0/29", ["10.1.2.2", "10.1.2.3", "10.1.2.4", "10.1.2.5", "10.1.2.6"], "", None),
        ("10.1.2.0/29", ["10.1.2.2", "10.1.2.4", "10.1.2.5", "10.1.2.6"], "10.1.2.4", "10.1.2.3"),
        ("10.1.2.0/30", [], "", "10.1.2.2"),
        ("10.1.2.0/31", [], "", None),
        ("10.1.2.1/32", [], "", None),
        ("fd00::/126", [], "fd00::2", "fd00::3"),
        ("fd00::/126", [], "fd00::3", "fd00::2"),
        ("fd00::/127", [], "", None),
        ("fd00::/128", [], "", None),
        ("fd00::/64", [], "fd00::ffff:ffff:ffff:ffff", "fd00::2"),
        ("::/0", [], "", "::2"),
    ],
)
def test_addresses_go_round(cidr: str, used: list[str], after: str, expected: str | None) -> None:
    assert take(cidr, used, after) == expected


def test_capacity() -> None:
    counts = {
        cidr: capacity(parse_cidr(cidr)) for cidr in ("10.0.0.0/24", "10.0.0.0/31", "fd00::/112")
    }
    assert counts == {"10.0.0.0/24": 253, "10.0.0.0/31": 0, "fd00::/112": 65534}


@st.composite
def networks(draw: st.DrawFn) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if draw(st.booleans()):
        prefix = draw(st.integers(25, 32))
        base4 = ipaddress.IPv4Address(draw(st.integers(2**24, 2**31)))
        return ipaddress.IPv4Network((base4, prefix), strict=False)
    base = ipaddress.IPv6Address(0xFD << 120 | draw(st.integers(0, 2**64)))
    return ipaddress.IPv6Network((base, draw(st.integers(121, 128))), strict=False)


@given(networks(), st.data())
def test_what_is_given_is_free_and_in_order(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network, data: st.DataObject
) -> None:
    """Compared with a slow look at every address."""
    everything = list(network)[2:]
    if network.version == 4:
        everything = everything[:-1]
    used = data.draw(st.sets(st.sampled_from(everything))) if everything else set()
    after = data.draw(st.none() | st.sampled_from(list(network)))
    found = next_address(
        parse_cidr(str(network)),
        {parse_address(str(a)) for a in used},
        parse_address(str(after)) if after is not None else None,
    )
    free = [address for address in everything if address not in used]
    behind = [address for address in free if after is not None and address > after]
    expected = next(iter(behind or free), None)
    assert (format_address(found) if found else None) == (str(expected) if expected else None)


@given(networks(), st.lists(st.integers(-3, 3), max_size=100))
def test_an_address_rests_until_all_others_had_their_turn(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network, steps: list[int]
) -> None:
    """Pods come (0 and above) and go; an address comes again only where no other was free all the time."""
    cidr, last = parse_cidr(str(network)), None
    used: list[Any] = []
    size = capacity(cidr)
    free_since = {Address(parse_address(str(network[2 + n]))): 0 for n in range(size)}
    given_at: dict[Address, int] = {}
    for step, way in enumerate(steps, 1):
        if way < 0:
            if used:
                free_since[used.pop(way % len(used))] = step
            continue
        found = next_address(cidr, set(used), last)
        if found is None:
            assert len(used) == size
            continue
        del free_since[found]  # it was free
        if found in given_at:
            assert all(since > given_at[found] for since in free_since.values())
        given_at[found] = step
        used.append(found)
        last = found
