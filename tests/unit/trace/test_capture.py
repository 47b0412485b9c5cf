# SPDX-License-Identifier: Apache-2.0
"""Captures: every format is read alike, and damage is told without losing what came before."""

from __future__ import annotations

import io
import random
import struct

import pytest

from kubypass.errors import ConfigError
from kubypass.trace.capture import Damage, Record, read_capture, write_header, write_record
from kubypass.trace.frame import ethernet_frame, read_ends
from tests.trace.captures import frames_of_bytes, pcap, pcapng

FRAME = bytes.fromhex("024b50000001024b500000010800") + bytes.fromhex(
    "4500001c000100004011f96ac0a8010bcb00710900350fa000080000"
)
IPV6 = bytes(12) + bytes.fromhex("86dd6000000000103c40") + bytes(15) + b"\1" + bytes(15) + b"\2"
OPTIONS, LATER = (
    bytes.fromhex("1100000000000000") + b"\0\x35\x0f\xa0",
    bytes.fromhex("1100000800000000"),
)


def read(data: bytes) -> list[Record | Damage]:
    return list(read_capture(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("capture", "after_ns"),
    [
        (pcap([FRAME, FRAME]), 5000),
        (pcap([FRAME, FRAME], order=">"), 5000),
        (pcap([FRAME, FRAME], nanoseconds=True), 5),
        (pcap([FRAME, FRAME], order=">", nanoseconds=True), 5),
        (pcapng([FRAME, FRAME]), 5),
        (pcapng([FRAME, FRAME], ">"), 5),
    ],
)
def test_every_format_is_read_alike(capture: bytes, after_ns: int) -> None:
    for number, record in enumerate(read(capture)):
        assert isinstance(record, Record)
        assert (record.data, record.length, record.link_type) == (FRAME, len(FRAME), 1)
        assert abs(record.time_ns - (1000 + number) * 10**9 - after_ns) < 1000
    assert len(read(capture)) == 2


@pytest.mark.parametrize(
    ("link", "data"),
    [
        (1, FRAME),
        (101, FRAME[14:]),
        (0, struct.pack("<I", 2) + FRAME[14:]),
        (113, bytes(14) + FRAME[12:]),
        (276, FRAME[12:14] + bytes(18) + FRAME[14:]),
    ],
)
def test_links_become_ethernet(link: int, data: bytes) -> None:
    frame = ethernet_frame(Record(0, link, data, len(data)))
    assert frame
    assert frame[12:] == FRAME[12:]
    assert str(read_ends(frame)) == "192.168.1.11:53 -> 203.0.113.9:4000"


def test_ends_behind_tags_and_extension_headers() -> None:
    tagged = FRAME[:12] + b"\x88\xa8\0\1\x81\0\0\2" + FRAME[12:]
    assert read_ends(tagged) == read_ends(FRAME)
    assert str(read_ends(IPV6 + OPTIONS)) == "[::1]:53 -> [::2]:4000"
    later = read_ends(IPV6[:20] + b"\x2c" + IPV6[21:] + LATER + OPTIONS)
    assert str(later) == "::1 -> ::2"
    assert read_ends(FRAME[:20]) is None


@pytest.mark.parametrize(
    ("capture", "why"),
    [
        (pcap([FRAME])[:-4], "the file ends within a record"),
        (pcap([]) + b"\xff" * 16, "a record says that it has 4294967295 bytes"),
        (pcapng([FRAME]) + b"\x06\0\0\0\x0d\0\0\0", "a block says that it has 13 bytes"),
        (pcapng([FRAME])[:-8], "the file ends within a record"),
        (b"\x0a\x0d\x0d\x0a" + bytes(8), "a section has no byte order"),
    ],
)
def test_damage_is_told(capture: bytes, why: str) -> None:
    *_, last = read(capture)
    assert isinstance(last, Damage)
    assert last.why.startswith(why)


@pytest.mark.parametrize("data", [b"", b"{}", b"\x1f\x8b\x08\0"])
def test_what_is_no_capture_is_an_error(data: bytes) -> None:
    with pytest.raises(ConfigError, match="expected pcap or pcapng"):
        read(data)


def test_what_is_written_can_be_read() -> None:
    file = io.BytesIO()
    write_header(file)
    record = Record(1_700_000_000_123_456_789, 1, FRAME, 100)
    write_record(file, record)
    assert read(file.getvalue()) == [record]
    assert frames_of_bytes(file.getvalue()) == [FRAME]


def test_any_bytes_end_in_records_and_damage() -> None:
    """Nothing raises, whatever a capture was changed to."""
    chance = random.Random(1)
    for _ in range(3000):
        data = bytearray(chance.choice([pcap([FRAME] * 3), pcapng([FRAME] * 3)]))
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(4, len(data))] = chance.randrange(256)
        for record in read(bytes(data[: chance.randrange(4, len(data))])):
            if isinstance(record, Record):
                frame = ethernet_frame(record)
                assert frame is None or read_ends(frame) is None or str(read_ends(frame))
