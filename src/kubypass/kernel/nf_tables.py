# SPDX-License-Identifier: Apache-2.0
"""Writes nftables(8) tables of ours by nfnetlink, each in one transaction. No program is needed, and others' stay.

The numbers are those of linux/netfilter/nf_tables.h. Integers of messages are in network order, those of data are not.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from kubypass.errors import KernelError
from kubypass.kernel.netfilter import NETFILTER, NFTABLES
from kubypass.kernel.netlink import Netlink, attribute, attributes, messages

_HEADER = struct.Struct("=IHHII")
_BEGIN, _END, _ERROR = 0x10, 0x11, 2
_NEW_TABLE, _DELETE_TABLE, _NEW_CHAIN, _NEW_RULE, _GET_RULE, _NEW_SET, _NEW_ELEMENT, _GET_GENERATION = (
    0, 2, 3, 6, 7, 9, 12, 16,
)  # fmt: skip
_REQUEST, _ACK, _CREATE, _DUMP, _APPEND = 1, 4, 0x400, 0x300, 0x800
_INET = 1
_INTERVAL = 4  # NFT_SET_INTERVAL
_INTERVAL_END = 1
_NAMES = {4: (b"pods4", 7, 4, 12, 16, 2), 6: (b"pods6", 8, 16, 8, 24, 10)}
"""By family: a set's name, nft's number of its type, bytes of an address, where headers have both, NFPROTO_*."""
_CHAINS = {b"prerouting": 0, b"output": 3}  # NF_INET_PRE_ROUTING, NF_INET_LOCAL_OUT
_RAW = -300
_ELEMENTS = 256
_SEND_BUFFER_FORCE, _ROOM = 32, 1 << 23
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class _Message:
    kind: int
    body: bytes
    flags: int = 0


def _number(value: int) -> bytes:
    return struct.pack("!I", value & 0xFFFFFFFF)


def _name(text: str) -> bytes:
    return text.encode() + b"\0"


def _nested(kind: int, body: bytes) -> bytes:
    return attribute(kind | 0x8000, body)


def _expression(name: str, data: bytes = b"") -> bytes:
    body = attribute(1, _name(name)) + (_nested(2, data) if data else b"")
    return _nested(1, body)


def no_conntrack_rules() -> int:
    """The number of rules of the table: for each hook and family, by source and by destination."""
    return 2 * len(_CHAINS) * len(_NAMES)


def _rule(table: str, chain: bytes, version: int, offset: int) -> _Message:
    """Packets of a family whose address at `offset` is a pod's are not tracked."""
    name, _, size, _, _, protocol = _NAMES[version]
    family = bytes([protocol])
    expressions = (
        _expression("meta", attribute(1, _number(1)) + attribute(2, _number(15)))  # nfproto
        + _expression(
            "cmp",
            attribute(1, _number(1)) + attribute(2, _number(0)) + _nested(3, attribute(1, family)),
        )
        + _expression(
            "payload",
            attribute(1, _number(1))
            + attribute(2, _number(1))  # of the network header
            + attribute(3, _number(offset))
            + attribute(4, _number(size)),
        )
        + _expression("lookup", attribute(1, name + b"\0") + attribute(2, _number(1)))
        + _expression("counter", attribute(1, bytes(8)) + attribute(2, bytes(8)))
        + _expression("notrack")
    )
    body = attribute(1, _name(table)) + attribute(2, chain + b"\0") + _nested(4, expressions)
    return _Message(_NEW_RULE, body, _CREATE | _APPEND)


def _set(table: str, version: int, networks: Iterable[Network]) -> Iterator[_Message]:
    name, kind, size, _, _, _ = _NAMES[version]
    body = (
        attribute(1, _name(table)) + attribute(2, name + b"\0") + attribute(3, _number(_INTERVAL))
    )
    body += (
        attribute(4, _number(kind)) + attribute(5, _number(size)) + attribute(10, _number(version))
    )
    yield _Message(_NEW_SET, body, _CREATE)
    ends: list[tuple[int, int]] = []
    for one in networks:
        first, after = int(one.network_address), int(one.broadcast_address) + 1
        ends += [(first, 0)] + ([(after, _INTERVAL_END)] if after < 1 << 8 * size else [])
    if ends and ends[0][0]:
        ends.insert(0, (0, _INTERVAL_END))  # as nft writes it: before the first, nothing matches
    for begin in range(0, len(ends), _ELEMENTS):
        elements = b"".join(
            _nested(
                1,
                (attribute(3, _number(flag)) if flag else b"")
                + _nested(1, attribute(1, value.to_bytes(size))),
            )
            for value, flag in ends[begin : begin + _ELEMENTS]
        )
        head = attribute(1, _name(table)) + attribute(2, name + b"\0")
        yield _Message(_NEW_ELEMENT, head + _nested(3, elements), _CREATE)


def _table(table: str, networks: dict[int, list[Network]]) -> Iterator[_Message]:
    """Replaces the table: made if it is missing, removed, and made again, of which others see the end only."""
    name = attribute(1, _name(table))
    yield _Message(_NEW_TABLE, name, _CREATE)
    yield _Message(_DELETE_TABLE, name)
    yield _Message(_NEW_TABLE, name, _CREATE)
    for version in _NAMES:
        yield from _set(table, version, networks.get(version, []))
    for chain, hook in _CHAINS.items():
        hooked = _nested(4, attribute(1, _number(hook)) + attribute(2, _number(_RAW)))
        body = name + attribute(3, chain + b"\0") + hooked + attribute(7, _name("filter"))
        yield _Message(_NEW_CHAIN, body, _CREATE)
    for chain in _CHAINS:
        for version in _NAMES:
            source, destination = _NAMES[version][3], _NAMES[version][4]
            if version == 6:
                source, destination = 8, 24
            yield _rule(table, chain, version, source)
            yield _rule(table, chain, version, destination)


def write_no_conntrack(table: str, networks: dict[int, list[Network]]) -> None:
    """Makes the table that has connection tracking skip packets of these networks; networks do not overlap."""
    _commit(list(_table(table, networks)), f"nftables table inet {table}")


def remove_table(table: str) -> bool:
    """Removes a table of ours; False where there is none, or no nftables in this kernel."""
    if not has_table(table):
        return False
    _commit([_Message(_DELETE_TABLE, attribute(1, _name(table)))], f"nftables table inet {table}")
    return True


def has_table(table: str) -> bool:
    """Whether there is a table of this name that has rules."""
    return count_rules(table) > 0


def count_rules(table: str) -> int:
    """The number of rules in a table; 0 where there is none."""
    asked = struct.pack("!BBH", _INET, 0, 0) + attribute(1, _name(table))
    try:
        found = list(_ask(_GET_RULE, _DUMP, asked))
    except OSError as error:
        if error.errno in (errno.ENOENT, *_ABSENT):
            return 0
        raise
    return sum(attributes(data[4:]).get(1) == _name(table) for data in found)


_ABSENT = (errno.EOPNOTSUPP, errno.EINVAL, errno.EPROTONOSUPPORT)


def generation() -> int | None:
    """A number that changes with every change of a rule; None where this kernel has no nftables."""
    try:
        for data in _ask(_GET_GENERATION, 0, struct.pack("!BBH", 0, 0, 0)):
            return int.from_bytes(attributes(data[4:])[1])
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
    return None


def _ask(kind: int, flags: int, body: bytes) -> Iterator[bytes]:
    with Netlink(NETFILTER) as netlink:
        for _, data in netlink.request(NFTABLES << 8 | kind, flags, body):
            yield data
            if not flags:
                return


def _commit(changes: list[_Message], subject: str) -> None:
    """Sends one transaction, and waits until the kernel has taken each part of it."""
    batch = struct.pack("!BBH", 0, 0, NFTABLES)
    sent = [_HEADER.pack(20, _BEGIN, _REQUEST, 1, 0) + batch]
    for number, one in enumerate(changes, start=2):
        body = struct.pack("!BBH", _INET, 0, 0) + one.body
        kind = NFTABLES << 8 | one.kind
        flags = _REQUEST | _ACK | one.flags
        sent.append(_HEADER.pack(16 + len(body), kind, flags, number, 0) + body)
    sent.append(_HEADER.pack(20, _END, _REQUEST, len(changes) + 2, 0) + batch)
    try:
        with socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETFILTER
        ) as s:
            s.setsockopt(socket.SOL_SOCKET, _SEND_BUFFER_FORCE, _ROOM)
            s.setsockopt(socket.SOL_SOCKET, 33, _ROOM)  # SO_RCVBUFFORCE: an answer for each part
            s.bind((0, 0))
            s.send(b"".join(sent))
            _read_answers(s, len(changes))
    except OSError as error:
        raise KernelError("write", subject, error.errno or 0, "needs root and nftables") from None


def _read_answers(opened: socket.socket, count: int) -> None:
    """Raises the first error among the answers. Where a transaction fails, the kernel takes back all of it."""
    while count > 0:
        for kind, data in messages(opened.recv(1 << 18)):
            if kind != _ERROR:
                continue
            code = struct.unpack_from("=i", data)[0]
            if code:
                raise OSError(-code, os.strerror(-code))
            count -= 1
