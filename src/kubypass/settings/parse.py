# SPDX-License-Identifier: Apache-2.0
"""How the text of a setting is read: the value, or a ValueError saying what is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from kubypass.model.address import UNSPECIFIED, AddressPort, Family, parse_address
from kubypass.model.cidr import Cidr, parse_cidr
from kubypass.model.constants import NETWORKS_MAX

NS_PER_S: Final = 1_000_000_000

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_UNITS_NS = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "ms": 10**6,
    "s": NS_PER_S,
    "m": 60 * NS_PER_S,
    "h": 3600 * NS_PER_S,
}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_MAX_DURATION_NS = 2**63 - 1
_MAX_PORT = 65535
FIRST_NAT_PORT = 1024
"""The first port that SNAT may use. Lower ports are for the node's own services."""


def parse_bool(text: str) -> bool:
    """Read a switch as Go's strconv.ParseBool does."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    msg = 'expected "true" or "false"'
    raise ValueError(msg)


def parse_optional_bool(text: str) -> bool | None:
    """Read a switch that has a third state, unset, which no text stands for."""
    return parse_bool(text)


def parse_choice(*choices: str) -> Callable[[str], str]:
    """Make a parser of one of these words."""

    def parse(text: str) -> str:
        if text not in choices:
            msg = "expected " + " or ".join(f'"{choice}"' for choice in choices)
            raise ValueError(msg)
        return text

    return parse


def parse_size(low: int, high: int, *, inherit: bool = False) -> Callable[[str], int]:
    """Make a parser of whole numbers. `inherit` allows 0, which stands for another value."""

    def parse(text: str) -> int:
        number = (
            int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(high)) else -1
        )
        if (inherit and number == 0) or low <= number <= high:
            return number
        msg = f"expected a whole number from {low} to {high}" + (", or 0" if inherit else "")
        raise ValueError(msg)

    return parse


def parse_duration_ns(text: str) -> int:
    """Read a duration above zero in Go's notation (`8000s`, `2h30m`); returns nanoseconds."""
    position, total = 0, 0.0
    while match := _DURATION_PART.match(text, position):
        total += float(match[1]) * _UNITS_NS[match[2]]
        position = match.end()
    if position != len(text) or not 1 <= total <= _MAX_DURATION_NS:
        msg = "expected a duration above zero, such as 60s or 2h30m"
        raise ValueError(msg)
    return int(total)


def parse_duration_between(low_s: int, high_s: int) -> Callable[[str], int]:
    """Make a parser of durations in these bounds; it returns nanoseconds."""

    def parse(text: str) -> int:
        found = parse_duration_ns(text)
        if not low_s * NS_PER_S <= found <= high_s * NS_PER_S:
            msg = f"expected a duration from {low_s}s to {high_s // 3600}h"
            raise ValueError(msg)
        return found

    return parse


def parse_family_cidr(version: Family) -> Callable[[str], Cidr | None]:
    """Make a parser of one network of the family. Empty text is None."""

    def parse(text: str) -> Cidr | None:
        if not text:
            return None
        try:
            cidr = parse_cidr(text)
        except ValueError:
            cidr = None
        if cidr is None or cidr.family != version:
            example = "10.0.0.0/8" if version == 4 else "fd00::/48"
            msg = f"expected an IPv{version} network, such as {example}"
            raise ValueError(msg)
        return cidr

    return parse


def parse_words(text: str) -> tuple[str, ...]:
    """Read words that are separated by commas or blanks."""
    return tuple(text.replace(",", " ").split())


def parse_cidrs(text: str) -> tuple[Cidr, ...]:
    """Read networks of either family, separated by commas or blanks."""
    found: list[Cidr] = []
    for word in parse_words(text):
        try:
            found.append(parse_cidr(word))
        except ValueError as error:
            msg = (
                f"{error}; expected networks separated by commas, such as 192.168.1.0/24,fd00::/64"
            )
            raise ValueError(msg) from None
    return tuple(found)


def parse_networks(text: str) -> tuple[Cidr, ...]:
    """Read networks as parse_cidrs does, at most NETWORKS_MAX of them."""
    found = parse_cidrs(text)
    if len(found) > NETWORKS_MAX:
        msg = f"expected at most {NETWORKS_MAX} networks"
        raise ValueError(msg)
    return found


def parse_family_cidrs(version: Family) -> Callable[[str], tuple[Cidr, ...]]:
    """Make a parser of networks of one family, separated by commas or blanks."""
    one = parse_family_cidr(version)

    def parse(text: str) -> tuple[Cidr, ...]:
        return tuple(cidr for word in parse_words(text) if (cidr := one(word)) is not None)

    return parse


def parse_port_range(text: str) -> tuple[int, int]:
    """Read `first,last`; both ports are included."""
    words = parse_words(text)
    numbers = [int(word) for word in words if word.isascii() and word.isdigit() and len(word) <= 5]
    if len(words) != 2 or len(numbers) != 2 or not 0 < numbers[0] <= numbers[1] <= _MAX_PORT:
        msg = 'expected "first,last" with ports from 1 to 65535, such as "30000,32767"'
        raise ValueError(msg)
    return numbers[0], numbers[1]


def parse_nat_range(text: str) -> tuple[int, int] | None:
    """Read `first,last` from FIRST_NAT_PORT on. Empty text is None."""
    if not text:
        return None
    try:
        first, last = parse_port_range(text)
    except ValueError:
        first = last = 0
    if first < FIRST_NAT_PORT:
        msg = f'expected "first,last" with ports from {FIRST_NAT_PORT} to 65535, such as "20000,29999"; or ""'
        raise ValueError(msg)
    return first, last


def parse_bind_address(text: str) -> AddressPort | None:
    """Read `address:port`, with IPv6 in brackets. Without an address it is every address. Empty text is None."""
    if not text:
        return None
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = parse_address(host[1:-1] if bracketed else host) if host else UNSPECIFIED[4]
        number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    except ValueError:
        number = 0
    if not 0 < number <= _MAX_PORT or (":" in host) != bracketed:
        msg = 'expected "address:port" with a port from 1 to 65535, such as "0.0.0.0:10256" or "[::1]:10256"; or ""'
        raise ValueError(msg)
    return address, number
