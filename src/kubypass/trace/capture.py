# SPDX-License-Identifier: Apache-2.0
"""Captures as tcpdump and Wireshark write them: pcap in both byte orders, micro- and nanoseconds, and pcapng.

Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. What cannot be read becomes a `Damage`: libraries
for these formats raise at the first bad record, and lose the rest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from kubypass.errors import ConfigError

ETHERNET: Final = 1
"""LINKTYPE_ETHERNET of the registry of link types."""
_NS = 1_000_000_000
_MAGICS = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
"""The magic numbers of pcap say the byte order, and how many nanoseconds a unit of the fraction has."""
_SECTION = b"\x0a\x0d\x0d\x0a"
_BYTE_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 1, 2, 3, 6
_LONGEST = 1 << 22
"""No record is longer; a length above this is a damaged one."""
_TIME_RESOLUTION, _TIME_OFFSET = 9, 14
_NANOSECOND_FILE = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, ETHERNET)


@dataclass(frozen=True, slots=True)
class Record:
    """One packet of a capture."""

    time_ns: int
    """Since 1970; 0 where the capture does not say."""
    link_type: int
    data: bytes
    length: int
    """What the packet had on its link; more than `data` has where the capture cut it."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A part of a capture that cannot be read, in a sentence."""

    why: str


class _CutOffError(Exception):
    """The file ends within a record."""


@dataclass(frozen=True, slots=True)
class _Interface:
    link_type: int
    snap_length: int
    unit_ns: float = 1000.0
    offset_ns: int = 0


def read_capture(file: BinaryIO) -> Iterator[Record | Damage]:
    """Yields the packets in their order. ConfigError where the file is no capture at all."""
    magic = file.read(4)
    try:
        if magic in _MAGICS:
            yield from _pcap(file, *_MAGICS[magic])
        elif magic == _SECTION:
            yield from _pcapng(file)
        else:
            raise ConfigError(_no_capture(magic), hint="tcpdump -w FILE writes one")
    except _CutOffError:
        yield Damage("the file ends within a record")


def _no_capture(magic: bytes) -> str:
    if magic[:2] == b"\x1f\x8b":
        return "it is compressed: expected pcap or pcapng, after gunzip"
    return f"it is no capture: expected pcap or pcapng, found {magic.hex() or 'an empty file'}"


def write_header(file: BinaryIO) -> None:
    """Begins a pcap file of Ethernet frames with nanoseconds."""
    file.write(_NANOSECOND_FILE)


def write_record(file: BinaryIO, record: Record) -> None:
    """Appends a packet to such a file."""
    seconds, fraction = divmod(record.time_ns, _NS)
    head = struct.pack("<IIII", seconds & 0xFFFFFFFF, fraction, len(record.data), record.length)
    file.write(head + record.data)


def _exactly(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise _CutOffError
    return data


def _pcap(file: BinaryIO, order: str, unit_ns: int) -> Iterator[Record | Damage]:
    *_, link_type = struct.unpack(f"{order}HHiIII", _exactly(file, 20))
    link_type &= 0xFFFF  # the upper bits tell of a frame check sequence
    while head := file.read(16):
        if len(head) < 16:
            raise _CutOffError
        seconds, fraction, captured, length = struct.unpack(f"{order}IIII", head)
        if captured > _LONGEST:
            yield Damage(
                f"a record says that it has {captured} bytes; the rest of the file is not read"
            )
            return
        data = _exactly(file, captured)
        yield Record(seconds * _NS + fraction * unit_ns, link_type, data, max(length, captured))


def _pcapng(file: BinaryIO) -> Iterator[Record | Damage]:
    """Reads blocks. The file's first four bytes, a section header's type, are read already."""
    order, interfaces = "<", list[_Interface]()
    kind = _SECTION
    while kind:
        if len(kind) < 4:
            raise _CutOffError
        head = _exactly(file, 4)
        if kind == _SECTION:
            magic = _exactly(file, 4)
            if magic not in _BYTE_ORDERS:
                yield Damage("a section has no byte order; the rest of the file is not read")
                return
            order, interfaces, head = _BYTE_ORDERS[magic], [], head + magic
        (size,) = struct.unpack_from(f"{order}I", head)
        if size % 4 or not len(head) + 8 <= size <= _LONGEST:
            yield Damage(f"a block says that it has {size} bytes; the rest of the file is not read")
            return
        body = _exactly(file, size - 4 - len(head))[:-4]
        if kind != _SECTION:
            (number,) = struct.unpack(f"{order}I", kind)
            try:
                yield from _block(number, body, order, interfaces)
            except (struct.error, IndexError):
                yield Damage(f"a block of type {number} is too short, or of no known interface")
        kind = file.read(4)


def _block(
    number: int, body: bytes, order: str, interfaces: list[_Interface]
) -> Iterator[Record | Damage]:
    """Takes in one block. Types that hold no packet are passed over, as the format asks for."""
    if number == _INTERFACE:
        interfaces.append(_interface(body, order))
    elif number == _SIMPLE_PACKET:
        (length,) = struct.unpack_from(f"{order}I", body)
        captured = min(length, interfaces[0].snap_length or length, len(body) - 4)
        yield Record(0, interfaces[0].link_type, body[4 : 4 + captured], length)
    elif number in {_PACKET, _OLD_PACKET}:
        which, high, low, captured, length = struct.unpack_from(f"{order}IIIII", body)
        if number == _OLD_PACKET:
            (which,) = struct.unpack_from(f"{order}H", body)
        found = interfaces[which]
        if captured > len(body) - 20:
            yield Damage(f"a packet says that it has {captured} bytes, its block has fewer")
            return
        time_ns = int((high << 32 | low) * found.unit_ns) + found.offset_ns
        data = body[20 : 20 + captured]
        yield Record(time_ns, found.link_type, data, max(length, captured))


def _interface(body: bytes, order: str) -> _Interface:
    link_type, _, snap_length = struct.unpack_from(f"{order}HHI", body)
    unit_ns, offset_ns, at = 1000.0, 0, 8
    while at + 4 <= len(body):
        code, length = struct.unpack_from(f"{order}HH", body, at)
        value = body[at + 4 : at + 4 + length]
        if code == _TIME_RESOLUTION and value:
            power = value[0] & 0x7F
            unit_ns = _NS * (2.0**-power if value[0] & 0x80 else 10.0**-power)
        elif code == _TIME_OFFSET and len(value) == 8:
            offset_ns = struct.unpack(f"{order}q", value)[0] * _NS
        at += 4 + length + -length % 4
    return _Interface(link_type, snap_length, unit_ns, offset_ns)
