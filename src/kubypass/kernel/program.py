# SPDX-License-Identifier: Apache-2.0
"""Loaded programs, and running one without attaching it: bpf(2)."""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass

from kubypass.kernel.bpf import Owned, attributes_of, call, check, describe, open_pin

_PROG_TEST_RUN = 10
CHECKSUM_COMPLETE = 4  # of test runs
_VERIFIED_AT = 216  # in struct bpf_prog_info
_SKB_BYTES, _SKB_MARK_AT, _SKB_IFINDEX_AT, _SKB_GSO_SIZE_AT = (
    192,
    8,
    40,
    176,
)  # struct __sk_buff of linux/bpf.h


@dataclass(frozen=True, slots=True)
class TestRun:
    """The result of a test run: return value, packet and context as the program left them, nanoseconds a run."""

    retval: int
    data: bytes
    context: bytes
    duration_ns: int


def packet_context(ifindex: int, *, segment_bytes: int = 0, mark: int = 0) -> bytes:
    """The context of a packet on a device, for `Program.test_run`; `segment_bytes` is its GSO size."""
    context = bytearray(_SKB_BYTES)
    struct.pack_into("=I", context, _SKB_MARK_AT, mark)
    struct.pack_into("=I", context, _SKB_IFINDEX_AT, ifindex)
    struct.pack_into("=I", context, _SKB_GSO_SIZE_AT, segment_bytes)
    return bytes(context)


def packet_mark(context: bytes) -> int:
    """The mark of a packet, in the context that a test run has left."""
    mark: int = struct.unpack_from("=I", context, _SKB_MARK_AT)[0]
    return mark


def frame_context(ifindex: int, length: int) -> bytes:
    """The context of a frame of `length` bytes that arrives at a device, for `Program.test_run` of an XDP program."""
    return struct.pack("=IIIIII", 0, length, 0, ifindex, 0, 0)


class Program(Owned):
    """A loaded program."""

    @classmethod
    def open_pinned(cls, path: str) -> Program:
        """The program pinned at `path`."""
        return cls(open_pin(str(path)))

    @property
    def id(self) -> int:
        """The kernel's number of the program."""
        number: int = struct.unpack_from("=I", describe(self.fd, 128), 4)[0]
        return number

    @property
    def tag(self) -> str:
        """The kernel's hash of the instructions, 16 hex digits."""
        return describe(self.fd, 128)[8:16].hex()

    @property
    def verified_instructions(self) -> int:
        """How many instructions the verifier looked at, along every path; 0 before Linux 5.16."""
        number: int = struct.unpack_from("=I", describe(self.fd, 232), _VERIFIED_AT)[0]
        return number

    def test_run(
        self, packet: bytes, *, repeat: int = 1, context: bytes | None = None, flags: int = 0
    ) -> TestRun:
        """Runs the program on `packet` with nothing attached (BPF_PROG_TEST_RUN).

        With the flag CHECKSUM_COMPLETE (Linux 6.11) the packet has a checksum as from a device. EBADMSG then says that
        the program left that checksum wrong.
        """
        data_in = ctypes.create_string_buffer(packet, len(packet))
        data_out = ctypes.create_string_buffer(max(len(packet) + 256, 512))
        context_in = ctypes.create_string_buffer(context or b"", len(context or b"") or 1)
        context_out = ctypes.create_string_buffer(256)
        size = len(context) if context else 0
        attributes = attributes_of(
            "=IIIIQQIIIIQQI",
            self.fd,
            0,
            len(packet),
            len(data_out),
            ctypes.addressof(data_in),
            ctypes.addressof(data_out),
            repeat,
            0,
            size,
            size and len(context_out),
            ctypes.addressof(context_in) if size else 0,
            ctypes.addressof(context_out) if size else 0,
            flags,
        )
        check("test run", f"program {self.fd}", call(_PROG_TEST_RUN, attributes))
        retval, _, length = struct.unpack_from("=III", attributes, 4)
        duration, _, context_length = struct.unpack_from("=III", attributes, 36)
        return TestRun(retval, data_out.raw[:length], context_out.raw[:context_length], duration)
