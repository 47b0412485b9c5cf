# SPDX-License-Identifier: Apache-2.0
"""Chooses the uplinks: the devices that lead out of this node. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from kubypass.errors import ConfigError
from kubypass.kernel.netlink import Link, Route
from kubypass.model.address import Address, is_ipv6_link_local
from kubypass.model.pod import INTERFACE_PREFIX
from kubypass.model.printable import printable


def choose_uplinks(
    links: Mapping[str, Link],
    routes: Iterable[Route],
    addresses: Mapping[int, Sequence[Address]],
    devices: Sequence[str],
    internal: Collection[Address],
) -> tuple[Link, ...]:
    """The devices of the setting `devices`; else the devices with a default route or an `internal` address.

    Where no device has either, the first one that is up and has an address. ConfigError where there is none at all.
    `addresses` are by the index of their device; the Node object names the `internal` ones.
    """
    if devices:
        return _matching(links, devices)
    candidates = [
        link
        for link in links.values()
        if link.name != "lo" and not link.name.startswith(INTERFACE_PREFIX)
    ]
    leading = {route.ifindex for route in routes if route.prefix == 0}
    leading |= {index for index, some in addresses.items() if not set(some).isdisjoint(internal)}
    chosen = [link for link in candidates if link.index in leading]
    if not chosen:
        addressed = {i for i, some in addresses.items() if not all(map(is_ipv6_link_local, some))}
        chosen = [link for link in candidates if link.up and link.index in addressed][:1]
    if not chosen:
        raise ConfigError(
            "no device leads out of this node", hint="set `devices`, or give one an address"
        )
    return tuple(chosen)


def _matching(links: Mapping[str, Link], devices: Sequence[str]) -> tuple[Link, ...]:
    """The devices whose name matches one of these."""
    patterns = [_pattern(text) for text in devices]
    chosen = [link for name, link in links.items() if any(p.fullmatch(name) for p in patterns)]
    if not chosen:
        raise ConfigError(
            f"devices={' '.join(devices)}: no such device",
            hint=f"devices here are {' '.join(map(printable, sorted(links)))}",
        )
    return tuple(chosen)


def _pattern(text: str) -> re.Pattern[str]:
    """`eth+` and `eth*` match every name that starts with eth, `eth?` one more character; else the name itself."""
    text = f"{text[:-1]}*" if text.endswith("+") else text
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(c, re.escape(c)) for c in text), re.DOTALL)
