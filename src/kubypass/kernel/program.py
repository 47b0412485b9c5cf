# SPDX-License-Identifier: Apache-2.0
"""Programs, what they are attached to, and what this kernel lets them do: bpf(2)."""

from __future__ import annotations

import ctypes
import errno as errnos
import os
import struct
from dataclasses import dataclass

from kubypass.kernel.bpf import Owned, attributes_of, call, check, describe, open_pin

PROG_LOAD, PROG_TEST_RUN = 5, 10
LINK_CREATE, LINK_UPDATE = 28, 29
CHECKSUM_COMPLETE = 4  # of test runs
_FIB_LOOKUP = 69
_RETURN_0 = bytes.fromhex("b7000000000000009500000000000000")

CGROUP_ATTACH = {
    "bind4": 8,
    "bind6": 9,
    "connect4": 10,
    "connect6": 11,
    "sendmsg4": 14,
    "sendmsg6": 15,
    "recvmsg4": 19,
    "recvmsg6": 20,
    "getpeername4": 29,
    "getpeername6": 30,
}
TCX_ATTACH = {"ingress": 46, "egress": 47}


@dataclass(frozen=True, slots=True)
class TestRun:
    """What came of one packet: the program's return value, the packet and context after it, ns a run."""

    retval: int
    data: bytes
    context: bytes
    duration_ns: int


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

    def test_run(
        self, packet: bytes, *, repeat: int = 1, context: bytes | None = None, flags: int = 0
    ) -> TestRun:
        """Runs the program on `packet` with nothing attached (BPF_PROG_TEST_RUN).

        With the flag CHECKSUM_COMPLETE (Linux 6.11) the packet comes as from a device that has summed it, and EBADMSG
        says that the program has left that sum wrong.
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
        check("test run", f"program {self.fd}", call(PROG_TEST_RUN, attributes))
        retval, _, length = struct.unpack_from("=III", attributes, 4)
        duration, _, context_length = struct.unpack_from("=III", attributes, 36)
        return TestRun(retval, data_out.raw[:length], context_out.raw[:context_length], duration)


class Link(Owned):
    """An attachment. It ends with its last descriptor or pin."""

    @classmethod
    def open_pinned(cls, path: str) -> Link:
        """The link pinned at `path`."""
        return cls(open_pin(str(path)))

    @classmethod
    def attach_cgroup(cls, program: Program, cgroup_fd: int, hook: str) -> Link:
        """Attaches to a cgroup v2 directory; `hook` is a key of CGROUP_ATTACH."""
        result = call(
            LINK_CREATE, attributes_of("=IIII", program.fd, cgroup_fd, CGROUP_ATTACH[hook], 0)
        )
        return cls(check("attach to cgroup hook", hook, result))

    @classmethod
    def attach_tcx(cls, program: Program, ifindex: int, direction: str) -> Link:
        """Attaches to a device; `direction` is `ingress` or `egress` (Linux 6.6)."""
        result = call(
            LINK_CREATE, attributes_of("=IIII", program.fd, ifindex, TCX_ATTACH[direction], 0)
        )
        return cls(check("attach to device", f"{ifindex} {direction}", result))

    def update(self, program: Program) -> None:
        """Puts another program in place, with no packet in between unseen."""
        check(
            "update link",
            str(self.fd),
            call(LINK_UPDATE, attributes_of("=IIII", self.fd, program.fd, 0, 0)),
        )

    @property
    def program_id(self) -> int:
        """The number of the program that is attached now."""
        number: int = struct.unpack_from("=I", describe(self.fd, 64), 8)[0]
        return number

    @property
    def device(self) -> int:
        """For tcx: the device's index, 0 once that device is gone."""
        index: int = struct.unpack_from("=I", describe(self.fd, 64), 16)[0]
        return index

    @property
    def cgroup(self) -> int:
        """For cgroup hooks: the cgroup's number (its directory's inode), 0 once it is gone."""
        number: int = struct.unpack_from("=Q", describe(self.fd, 64), 16)[0]
        return number


def has_tcx() -> bool:
    """Does this kernel attach programs to devices by links? Tried on a device that does not exist."""
    program = Program(check("load", "a probe", _load_probe(_RETURN_0)))
    result = call(
        LINK_CREATE, attributes_of("=IIII", program.fd, 0x7FFFFFFF, TCX_ATTACH["ingress"], 0)
    )
    if result >= 0:
        os.close(result)
    return result >= 0 or -result == errnos.ENODEV


def _load_probe(code: bytes, kind: int = 3, attach: int = 0) -> int:
    """Loads `code` as a program of a kind (3: tc); a descriptor or minus the errno."""
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    attributes = attributes_of(
        "=IIQQIIQIIQQII",
        kind,
        len(code) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(licence),
        *(0,) * 8,
        attach,
    )
    return call(PROG_LOAD, attributes)


def fib_lookup_knows(flag: int) -> bool:
    """Does bpf_fib_lookup know a flag? It refuses those that it does not, whatever it is asked."""
    room = 64  # struct bpf_fib_lookup, all zero
    clear = b"".join(struct.pack("=BBhi", 0x7A, 10, -at, 0) for at in range(8, room + 1, 8))
    look_up = struct.pack(
        "=BBhiBBhiBBhiBBhiBBhi",
        *(0xBF, 0xA2, 0, 0),  # r2 = r10
        *(0x07, 0x02, 0, -room),
        *(0xB7, 0x03, 0, room),
        *(0xB7, 0x04, 0, flag),
        *(0x85, 0x00, 0, _FIB_LOOKUP),
    )
    result = _load_probe(clear + look_up + bytes.fromhex("9500000000000000"))
    if result < 0:
        return False
    run = Program(result).test_run(bytes(64))
    return run.retval != -errnos.EINVAL & 0xFFFFFFFF


def has_helper(number: int, kind: int = 3, attach: int = 0) -> bool:
    """May programs of a kind call this helper with no arguments to check (or fail later than for its absence)?"""
    call = struct.pack("=BBhi", 0x85, 0, 0, number)
    zero = bytes.fromhex("b701000000000000")  # r1 = 0
    result = _load_probe(zero + call + _RETURN_0, kind, attach)
    if result >= 0:
        os.close(result)
    return result >= 0
