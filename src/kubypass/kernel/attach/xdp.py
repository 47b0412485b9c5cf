# SPDX-License-Identifier: Apache-2.0
"""Attaching programs to devices by XDP links (Linux 5.9)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import StrEnum

from kubypass.kernel.attach.link import Link, create_link
from kubypass.kernel.program import Program

_XDP = 37
_SKB_MODE, _DRIVER_MODE = 1 << 1, 1 << 2


class XdpMode(StrEnum):
    """Where the program runs."""

    NATIVE = "native"
    """In the driver, before there is an sk_buff."""
    GENERIC = "generic"
    """In the kernel's receive path, for any driver."""


@dataclass(frozen=True, slots=True)
class XdpHook:
    """The hook of one device. A link does not say its mode: whoever keeps the link knows it."""

    ifindex: int
    mode: XdpMode

    def attach(self, program: Program) -> Link:
        """Attaches the program; KernelError where the driver refuses, or the device has a program (EBUSY, EEXIST)."""
        flags = _DRIVER_MODE if self.mode == XdpMode.NATIVE else _SKB_MODE
        subject = f"device {self.ifindex} XDP {self.mode}"
        return create_link(program, self.ifindex, _XDP, subject, flags=flags)

    def holds(self, link: Link) -> bool:
        """Whether the link is on this device; the kernel says 0 for a device that is gone."""
        index: int = struct.unpack_from("=I", link.info(), 16)[0]
        return index == self.ifindex
