# SPDX-License-Identifier: Apache-2.0
"""Reads which netfilter hooks have rules in this network namespace: nftables(8) by nfnetlink, and iptables-legacy.

Rules of iptables-nft are in nftables. Nothing here loads a module of the kernel, or changes a rule.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kubypass.kernel.netlink import Netlink, attribute, attributes
from kubypass.kernel.rtnetlink import DUMP

NETFILTER, NFTABLES = 12, 10
"""The protocol of netlink, and the subsystem of nfnetlink."""
GET_CHAIN, GET_RULE = NFTABLES << 8 | 4, NFTABLES << 8 | 7
_TABLE, _NAME, _HOOK, _POLICY = 1, 3, 4, 5
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_FAMILIES = {1: "inet", 2: "ip", 5: "netdev", 7: "bridge", 10: "ip6"}
_IP_HOOKS = ("prerouting", "input", "forward", "output", "postrouting", "ingress")
_DEVICE_HOOKS = ("ingress", "egress")
_INFO, _ENTRIES = 64, 65  # IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES and those of IPv6
_GET_INFO = struct.Struct("=32sI5I5III")
_ENTRIES_AT = 40
CHAINS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
_TARGET_DATA = 32
_DROP = -1
_LEGACY = (
    ("ip", socket.AF_INET, socket.IPPROTO_IP, "ip_tables_names", 88),
    ("ip6", socket.AF_INET6, socket.IPPROTO_IPV6, "ip6_tables_names", 140),
)
"""Family, level, the file of its tables, and where its entries have `target_offset` and `next_offset`."""


@dataclass(frozen=True, slots=True)
class HookedChain:
    """A chain that packets enter at a hook."""

    table: str
    """Family and name, such as `inet filter`."""
    name: str
    hook: str
    """`prerouting`, `input`, `forward`, `output`, `postrouting`, `ingress` or `egress`."""
    rules: int
    """Without jumps to chains of kube-proxy and of the kubelet."""
    drops: bool
    """What no rule decides is dropped."""


def hooked_chains() -> list[HookedChain]:
    """All chains with hooks; those of a kind that the kernel does not have, or that we may not read, are none."""
    found: list[HookedChain] = []
    for read in (_nftables, _legacy):
        with suppress(OSError):
            found += read()
    return found


def _nftables() -> Iterator[HookedChain]:
    with Netlink(NETFILTER) as netlink:
        for _, data in list(netlink.request(GET_CHAIN, DUMP, bytes(4))):
            family, fields = data[0], attributes(data[4:])
            hook = attributes(fields.get(_HOOK, b"")).get(1)
            if hook is None or family not in _FAMILIES:
                continue
            hooks = _DEVICE_HOOKS if family == 5 else _IP_HOOKS  # NFPROTO_NETDEV
            number, policy = int.from_bytes(hook), fields.get(_POLICY)
            table, name = text_of(fields[_TABLE]), text_of(fields[_NAME])
            yield HookedChain(
                f"{_FAMILIES[family]} {table}",
                name,
                hooks[number] if number < len(hooks) else str(number),
                _rules(netlink, family, table, name),
                policy is not None and int.from_bytes(policy) == 0,
            )


def _rules(netlink: Netlink, family: int, table: str, chain: str) -> int:
    asked = struct.pack("=BBH", family, 0, 0)
    asked += attribute(_RULE_TABLE, os.fsencode(table) + b"\0")
    asked += attribute(_RULE_CHAIN, os.fsencode(chain) + b"\0")
    count = 0
    for _, data in netlink.request(GET_RULE, DUMP, asked):
        fields = attributes(data[4:])
        mine = text_of(fields[_RULE_TABLE]) == table and text_of(fields[_RULE_CHAIN]) == chain
        count += mine and b"KUBE-" not in fields.get(_RULE_EXPRESSIONS, b"")
    return count


def text_of(value: bytes) -> str:
    """The text of a field that ends with a zero byte, or of one that is padded."""
    return os.fsdecode(value.partition(b"\0")[0])


@dataclass(frozen=True, slots=True)
class LegacyTable:
    """A table of iptables-legacy, as the kernel has it: entries of bytes, one behind the other."""

    name: str
    family: str
    entries: bytes
    offsets: int
    """Where an entry has `target_offset` and `next_offset`."""
    starts: dict[int, int]
    """The first entry of each hook that the table has, by the hook's number."""
    ends: dict[int, int]
    """The last entry of each."""


def legacy_tables() -> Iterator[LegacyTable]:
    """The tables of iptables-legacy."""
    for family, domain, level, names, offsets in _LEGACY:
        try:
            tables = Path("/proc/thread-self/net", names).read_text().split()
        except FileNotFoundError:
            continue
        with socket.socket(domain, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW) as s:
            for table in tables:
                yield _read_legacy(s, family, level, table, offsets)


def _read_legacy(
    asked: socket.socket, family: str, level: int, table: str, offsets: int
) -> LegacyTable:
    name = os.fsencode(table)
    info = _GET_INFO.unpack(_ask(asked, level, _INFO, name, _GET_INFO.size))
    hooks, starts, ends, size = info[1], info[2:7], info[7:12], info[13]
    head = struct.pack("=32sI", name, size)
    entries = _ask(asked, level, _ENTRIES, head, _ENTRIES_AT + size)[_ENTRIES_AT:]
    valid = [number for number in range(len(CHAINS)) if hooks >> number & 1]
    return LegacyTable(
        f"{family} {table} (legacy)",
        family,
        entries,
        offsets,
        {number: starts[number] for number in valid},
        {number: ends[number] for number in valid},
    )


def _legacy() -> Iterator[HookedChain]:
    for table in legacy_tables():
        yield from _legacy_chains(table)


def _legacy_chains(table: LegacyTable) -> Iterator[HookedChain]:
    entries, offsets = table.entries, table.offsets
    chains = chains_by_start(entries, offsets)
    for number, start in table.starts.items():
        chain, at, rules = CHAINS[number], start, 0
        while at < table.ends[number]:
            target, after = struct.unpack_from("=HH", entries, at + offsets)
            verdict = struct.unpack_from("=i", entries, at + target + _TARGET_DATA)[0]
            rules += not chains.get(verdict, "").startswith("KUBE-")
            at += after
        policy = struct.unpack_from("=H", entries, at + offsets)[0]
        drops = struct.unpack_from("=i", entries, at + policy + _TARGET_DATA)[0] == _DROP
        yield HookedChain(table.name, chain, chain.lower(), rules, drops)


def chains_by_start(entries: bytes, offsets: int) -> dict[int, str]:
    """The names of the chains without hooks, by where their first rule is: a jump has this number as its verdict."""
    found, at = {}, 0
    while at < len(entries):
        target, after = struct.unpack_from("=HH", entries, at + offsets)
        kind = entries[at + target + 2 : at + target + 31].rstrip(b"\0")
        if kind == b"ERROR":
            name = entries[at + target + _TARGET_DATA : at + after]
            found[at + after] = text_of(name)
        at += after
    return found


def _ask(asked: socket.socket, level: int, option: int, head: bytes, size: int) -> bytes:
    """getsockopt(2) with a question in the buffer, which Python's own cannot have."""
    library = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(head, size)
    length = ctypes.c_uint32(size)
    if library.getsockopt(asked.fileno(), level, option, buffer, ctypes.byref(length)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return buffer.raw
