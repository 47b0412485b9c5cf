# SPDX-License-Identifier: Apache-2.0
"""Attaching programs to devices by tcx links (Linux 6.6)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from kubypass.kernel.attach.link import Link, create_link
from kubypass.kernel.program import Program

_ATTACH_TYPES = {"ingress": 46, "egress": 47}


@dataclass(frozen=True, slots=True)
class TcxHook:
    """One direction of one device."""

    ifindex: int
    direction: str
    """`ingress` or `egress`."""

    def attach(self, program: Program) -> Link:
        """Attaches the program behind those that are there; KernelError with ENODEV where there is no such device."""
        subject = f"device {self.ifindex} {self.direction}"
        return create_link(program, self.ifindex, _ATTACH_TYPES[self.direction], subject)

    def holds(self, link: Link) -> bool:
        """Whether the link is on this device; the kernel says 0 for a device that is gone."""
        index: int = struct.unpack_from("=I", link.info(), 16)[0]
        return index == self.ifindex
