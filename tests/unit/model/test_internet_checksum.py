# SPDX-License-Identifier: Apache-2.0
"""The Internet checksum, with the example of RFC 1071 section 3."""

from __future__ import annotations

from kubypass.model.internet_checksum import internet_checksum

EXAMPLE = bytes.fromhex("0001f203f4f5f6f7")


def test_the_example_of_the_rfc() -> None:
    assert internet_checksum(EXAMPLE) == ~0xDDF2 & 0xFFFF


def test_what_has_its_checksum_has_none_left() -> None:
    for data in (b"", EXAMPLE, b"\xff" * 40):
        assert internet_checksum(data + internet_checksum(data).to_bytes(2, "big")) == 0


def test_an_odd_byte_is_padded() -> None:
    assert internet_checksum(b"abc") == internet_checksum(b"abc\0")
