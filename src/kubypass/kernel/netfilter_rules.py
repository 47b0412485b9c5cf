# SPDX-License-Identifier: Apache-2.0
"""Reads what rules of netfilter do with connections: nftables(8) by nfnetlink, and iptables-legacy by its sockets.

Of each rule: whether it translates addresses, which states of connections it asks for, and to which source addresses it
is confined. What cannot be read counts as not confined.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network

from kubypass.kernel.netfilter import (
    CHAINS,
    GET_CHAIN,
    GET_RULE,
    NETFILTER,
    LegacyTable,
    chains_by_start,
    legacy_tables,
    text_of,
)
from kubypass.kernel.netlink import Netlink, attributes
from kubypass.kernel.nf_tables import Network
from kubypass.kernel.rtnetlink import DUMP

_FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}
_SOURCES = {2: (12, 4), 10: (8, 16)}
"""Where a header has the source, and its bytes, by NFPROTO_*."""
_TRANSLATIONS = frozenset({"nat", "masq", "redir", "tproxy"})
_TARGETS = frozenset({"MASQUERADE", "SNAT", "DNAT", "REDIRECT", "NETMAP", "TPROXY"})
_VERDICTS = frozenset({"reject", "REJECT", "DROP"})
ESTABLISHED, UNTRACKED, UNKNOWN = 2, 64, 0x7FFFFFFF
"""States of connections as rules ask for them: bits of NF_CT_STATE_*; all where they cannot be read."""
_XT_STATES_AT, _XT_UNTRACKED = 150, 256  # in struct xt_conntrack_mtinfo2 and its successor
_EQUAL = 0
_INVERTED_SOURCE = 8


@dataclass(frozen=True, slots=True)
class Rule:
    """What one rule does that needs connections to be tracked."""

    table: str
    """Family and name, such as `ip nat`."""
    chain: str
    number: int
    """Its handle, or its place in the chain."""
    translation: str = ""
    """How it translates addresses, such as `masq` or `DNAT`; empty where it does not."""
    states: int = 0
    """The states that it asks for; 0 where it asks for none."""
    drops: bool = False
    """It drops or rejects packets; or its chain does so with what no rule decides."""
    source: Network | None = None
    """The only network of senders that it is for; None where it is for all."""
    addresses: tuple[bytes, ...] = ()
    """Addresses that packets may get."""

    def __str__(self) -> str:
        return f"{self.table} {self.chain}, rule {self.number}"


def rules() -> list[Rule]:
    """All rules; those of a kind that the kernel does not have are none."""
    found: list[Rule] = []
    for read in (_nftables, _legacy):
        with suppress(OSError):
            found += read()
    return found


def _nftables() -> Iterator[Rule]:
    with Netlink(NETFILTER) as netlink:
        for _, data in list(netlink.request(GET_CHAIN, DUMP, bytes(4))):
            fields = attributes(data[4:])
            policy = fields.get(5)
            if data[0] in _FAMILIES and policy is not None and not int.from_bytes(policy):
                yield Rule(
                    f"{_FAMILIES[data[0]]} {text_of(fields[1])}", text_of(fields[3]), 0, drops=True
                )
        for _, data in list(netlink.request(GET_RULE, DUMP, bytes(4))):
            fields = attributes(data[4:])
            if data[0] in _FAMILIES:
                yield _nft_rule(data[0], fields)


@dataclass(slots=True)
class _Reader:
    """What is known while the expressions of one rule are read in turn."""

    rule: Rule
    family: int
    loaded: tuple[str, int, int] = ("", 0, 0)
    mask: bytes = b""
    addresses: list[bytes] = field(default_factory=list)

    def read(self, name: str, data: dict[int, bytes]) -> None:
        """Takes in one expression."""
        if name in _TRANSLATIONS:
            self.rule = replace(self.rule, translation=name)
        elif name in _VERDICTS:
            self.rule = replace(self.rule, drops=True)
        elif name in ("target", "match"):
            self._compatible(name, data)
        elif name in ("payload", "meta", "ct"):
            self._load(name, data)
        elif name == "bitwise":
            self._mask(data)
        elif name == "cmp":
            self._compare(data)
        elif name == "immediate":
            self._value(attributes(data.get(2, b"")))

    def _load(self, name: str, data: dict[int, bytes]) -> None:
        self.mask = b""
        if name == "payload":
            at, size = int.from_bytes(data.get(3, b"")), int.from_bytes(data.get(4, b""))
            self.loaded = ("header" if int.from_bytes(data.get(2, b"")) == 1 else "", at, size)
            return
        self.loaded = (name, int.from_bytes(data.get(2, b"")), 0)
        if name == "ct" and 1 in data and not self.loaded[1]:
            self.rule = replace(self.rule, states=UNKNOWN)  # until the mask says more

    def _mask(self, data: dict[int, bytes]) -> None:
        self.mask = attributes(data.get(4, b"")).get(1, b"")
        if self.loaded[0] == "ct" and not self.loaded[1]:
            self.rule = replace(self.rule, states=int.from_bytes(self.mask, sys.byteorder))

    def _value(self, value: dict[int, bytes]) -> None:
        if 1 in value:
            self.addresses.append(value[1])
        elif 2 in value:  # a verdict
            verdict = int.from_bytes(attributes(value[2]).get(1, b""), signed=True)
            self.rule = replace(self.rule, drops=self.rule.drops or verdict == 0)

    def _compare(self, data: dict[int, bytes]) -> None:
        value = attributes(data.get(3, b"")).get(1, b"")
        equal = int.from_bytes(data.get(2, b"")) == _EQUAL
        kind, at, size = self.loaded
        if kind == "meta" and at == 15 and equal:  # NFT_META_NFPROTO
            self.family = value[0]
        where = _SOURCES.get(self.family)
        if kind == "header" and equal and where and at == where[0] and value:
            bits = 8 * size
            if self.mask:
                bits = int.from_bytes(self.mask).bit_count()
            self.rule = replace(self.rule, source=_network(value.ljust(where[1], b"\0"), bits))

    def _compatible(self, name: str, data: dict[int, bytes]) -> None:
        """Parts of rules that iptables-nft has made."""
        kind, info = text_of(data.get(1, b"")), data.get(3, b"")
        if name == "target" and kind in _TARGETS:
            self.rule = replace(self.rule, translation=kind)
        elif name == "target" and kind in _VERDICTS:
            self.rule = replace(self.rule, drops=True)
        elif name == "match" and kind in ("conntrack", "state"):
            self.rule = replace(self.rule, states=_xt_states(kind, info))


def _nft_rule(family: int, fields: dict[int, bytes]) -> Rule:
    number = int.from_bytes(fields.get(3, b""))
    table = f"{_FAMILIES[family]} {text_of(fields[1])}"
    reader = _Reader(Rule(table, text_of(fields[2]), number), family)
    for body in _list(fields.get(4, b"")):
        expression = attributes(body)
        reader.read(text_of(expression.get(1, b"")), attributes(expression.get(2, b"")))
    return replace(reader.rule, addresses=tuple(reader.addresses))


def _list(data: bytes) -> Iterator[bytes]:
    """The bodies of attributes that are all of one kind."""
    at = 0
    while at + 4 <= len(data):
        length: int = struct.unpack_from("=H", data, at)[0]
        if length < 4:
            return
        yield data[at + 4 : at + length]
        at += (length + 3) & ~3


def _xt_states(kind: str, info: bytes) -> int:
    if kind != "conntrack" or len(info) < _XT_STATES_AT + 2:
        return UNKNOWN
    states: int = struct.unpack_from("=H", info, _XT_STATES_AT)[0]
    return states & 15 | (UNTRACKED if states & _XT_UNTRACKED else 0)


def _network(address: bytes, bits: int) -> Network:
    return ip_network((ip_address(address), bits), strict=False)


def _legacy() -> Iterator[Rule]:
    for table in legacy_tables():
        chains = chains_by_start(table.entries, table.offsets)
        at = number = 0
        chain = ""
        hooks = {start: CHAINS[hook] for hook, start in table.starts.items()}
        while at < len(table.entries):
            chain = hooks.get(at) or chains.get(at) or chain
            number = 0 if at in hooks or at in chains else number + 1
            after: int = struct.unpack_from("=H", table.entries, at + table.offsets + 2)[0]
            yield _legacy_rule(table, chain, number + 1, table.entries[at : at + after])
            at += after


def _legacy_rule(table: LegacyTable, chain: str, number: int, entry: bytes) -> Rule:
    size, matches, inverted = (4, 112, 83) if table.family == "ip" else (16, 168, 132)
    target: int = struct.unpack_from("=H", entry, table.offsets)[0]
    name, states = text_of(entry[target + 2 : target + 31]), 0
    while matches < target:
        length: int = struct.unpack_from("=H", entry, matches)[0]
        kind = text_of(entry[matches + 2 : matches + 31])
        if kind in ("conntrack", "state"):
            states = _xt_states(kind, entry[matches + 32 : matches + length])
        matches += max(length, 32)
    verdict: int = struct.unpack_from("=i", entry, target + 32)[0]
    bits = int.from_bytes(entry[2 * size : 3 * size]).bit_count()
    confined = bits and not entry[inverted] & _INVERTED_SOURCE
    return Rule(
        table.name,
        chain,
        number,
        translation=name if name in _TARGETS else "",
        states=states,
        drops=name == "REJECT" or (not name and verdict == -1),
        source=_network(entry[:size], bits) if confined else None,
    )
