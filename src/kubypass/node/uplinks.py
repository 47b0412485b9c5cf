# SPDX-License-Identifier: Apache-2.0
"""Chooses the uplinks: the devices by which clients, peers and networks outside are reached. Pure but for `Reach`.

Every device with an address in a network, or with a route beyond its own link, is one. The setting `devices` names
them instead; `!name` only leaves some out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kubypass.errors import ConfigError
from kubypass.kernel.netlink import FrameHeader, Link, LinkAddress
from kubypass.model.address import Address, is_ipv6_link_local, is_loopback, mapped_address
from kubypass.model.pod import INTERFACE_PREFIX
from kubypass.model.printable import printable

_OTHERS = re.compile(
    r"(?:docker|cni|virbr|cali|cilium_|flannel|kube-|nodelocaldns|vxlan\.calico|tunl0|weave|vethwe|ovn-k8s-|genev_sys_"
    r"|antrea-|podman|nerdctl|lxdbr|incusbr|cbr0|ovs-system|br-[0-9a-f]{12}$).*"
)
"""Names that container runtimes, virtual machines and other pod networks give to the devices that they make."""
_WITHOUT_ARRIVALS = frozenset({"dummy", "ifb", "nlmon"})
_SERVED = frozenset({FrameHeader.ETHERNET, FrameHeader.NONE})
_HEADER_UNKNOWN = "its packets begin with a header that kubypass cannot read"


class Reach(Protocol):
    """What the kernel's routes say of one device."""

    def has_default_route(self, link: Link) -> bool:
        """Whether a default route leads by the device."""

    def has_global_route(self, link: Link) -> bool:
        """Whether a route of any table leads by the device beyond its own link."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A device with addresses or routes that takes no part."""

    name: str
    reason: str
    served: bool
    """It could take part: nothing about it is beyond the programs."""


@dataclass(frozen=True, slots=True)
class Uplinks:
    """The devices that take part, those with a default route first, and the others of which somebody may expect it."""

    chosen: tuple[Link, ...]
    left_out: tuple[LeftOut, ...]


def choose_uplinks(
    links: Mapping[str, Link],
    addresses: Mapping[int, Sequence[LinkAddress]],
    reach: Reach,
    devices: Sequence[str],
    internal: Collection[Address],
) -> Uplinks:
    """Applies the setting `devices`; ConfigError where no device takes part.

    `addresses` are by the index of their device; the Node object names the `internal` ones.
    """
    chosen, left_out = [], []
    for link, reason in _judged(links, addresses, reach, devices, internal):
        if reason is None and link.header in _SERVED:
            chosen.append(link)
        elif reason is None:
            left_out.append(LeftOut(link.name, _HEADER_UNKNOWN, served=False))
        elif reason:
            left_out.append(LeftOut(link.name, reason, served=True))
    if not chosen:
        raise _nothing(links, devices, left_out)
    chosen.sort(key=lambda link: not reach.has_default_route(link))
    return Uplinks(tuple(chosen), tuple(left_out))


def unmatched(devices: Sequence[str], names: Collection[str]) -> list[str]:
    """The parts of the setting `devices` that fit no device of these names."""
    return [
        text
        for text in devices
        if not any(_pattern(text.removeprefix("!")).fullmatch(name) for name in names)
    ]


def _judged(
    links: Mapping[str, Link],
    addresses: Mapping[int, Sequence[LinkAddress]],
    reach: Reach,
    devices: Sequence[str],
    internal: Collection[Address],
) -> Iterator[tuple[Link, str | None]]:
    """Why each device takes no part: None where it does, "" where nobody expects it to."""
    wanted = [_pattern(text) for text in devices if not text.startswith("!")]
    unwanted = [_pattern(text[1:]) for text in devices if text.startswith("!")]
    kinds = {link.index: link.kind for link in links.values()}
    for name, link in links.items():
        if name == "lo" or name.startswith(INTERFACE_PREFIX):
            continue
        some = [entry for entry in addresses.get(link.index, ()) if _is_global(entry)]
        if any(p.fullmatch(name) for p in unwanted):
            yield link, _if(some, "the setting `devices` leaves it out")
        elif wanted:
            named = any(p.fullmatch(name) for p in wanted)
            yield link, None if named else _if(some, "the setting `devices` does not name it")
        else:
            is_named = not _addresses(some).isdisjoint(internal)
            yield link, None if is_named else _reason(link, some, kinds.get(link.master), reach)


def _reason(
    link: Link, some: Sequence[LinkAddress], master: str | None, reach: Reach
) -> str | None:
    """Why a device takes no part by itself, as _judged says it."""
    if link.master and master != "vrf":
        return _if(some, f"packets belong to the {master or 'device'} that it is a port of")
    if link.kind == "vrf":
        return _if(some, "packets arrive by the devices of this VRF, which take part")
    if link.kind in _WITHOUT_ARRIVALS:
        return _if(some, f"no packet arrives by a device of kind {link.kind}")
    if reach.has_default_route(link):
        return None
    foreign = ""
    if _OTHERS.fullmatch(link.name):
        foreign = "its name says that a container runtime or another pod network made it"
    elif link.kind == "veth" and all(entry.prefix == 8 * len(entry.address) for entry in some):
        foreign = "a veth without a network of its own: another pod network made it"
    elif some or reach.has_global_route(link):
        return None
    return _if(some, foreign)


def _if(some: Sequence[LinkAddress], reason: str) -> str:
    return reason if some else ""


def _is_global(entry: LinkAddress) -> bool:
    address = mapped_address(entry.address)
    return not is_ipv6_link_local(address) and not is_loopback(address)


def _addresses(some: Sequence[LinkAddress]) -> set[Address]:
    """The addresses as plans have them."""
    return {mapped_address(entry.address) for entry in some}


def _nothing(
    links: Mapping[str, Link], devices: Sequence[str], left_out: Sequence[LeftOut]
) -> ConfigError:
    """Says why no device takes part."""
    reasons = "; ".join(f"{printable(one.name)}: {one.reason}" for one in left_out[:3])
    if devices:
        hint = f"devices here are {' '.join(map(printable, sorted(links)))}"
        subject = f"devices={' '.join(devices)}: no such device"
        return ConfigError(subject, hint=f"{hint}; {reasons}" if reasons else hint)
    hint = "set `devices`, or give one an address"
    return ConfigError(
        "no device leads out of this node", hint=f"{hint}; {reasons}" if reasons else hint
    )


def _pattern(text: str) -> re.Pattern[str]:
    """`eth+` and `eth*` match every name that starts with eth, `eth?` one more character; else the name itself."""
    text = f"{text[:-1]}*" if text.endswith("+") else text
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(c, re.escape(c)) for c in text), re.DOTALL)
