# SPDX-License-Identifier: Apache-2.0
"""BPF links: attachments that live as long as a descriptor or a pin of them. All hooks but clsact make one."""

from __future__ import annotations

import struct
from typing import Protocol, Self

from kubypass.kernel.bpf import Owned, attributes_of, call, check, describe, open_pin
from kubypass.kernel.program import Program

_LINK_CREATE, _LINK_UPDATE, _LINK_DETACH = 28, 29, 34
_INFO_BYTES = 64


class Link(Owned):
    """An attachment of one program. It ends with its last descriptor or pin."""

    @classmethod
    def open_pinned(cls, path: str) -> Self:
        """The link pinned at `path`."""
        return cls(open_pin(path))

    def update(self, program: Program) -> None:
        """Replaces the program in place; no packet misses both."""
        attributes = attributes_of("=IIII", self.fd, program.fd, 0, 0)
        check("update link", str(self.fd), call(_LINK_UPDATE, attributes))

    def detach(self) -> None:
        """Detaches the program at once, where the last descriptor or pin would do so in a moment (Linux 5.9)."""
        check("detach link", str(self.fd), call(_LINK_DETACH, attributes_of("=I", self.fd)))

    @property
    def program_id(self) -> int:
        """The kernel's number of the program that is attached now."""
        number: int = struct.unpack_from("=I", self.info(), 8)[0]
        return number

    def info(self) -> bytes:
        """The start of struct bpf_link_info; what the kind of link adds begins at byte 16."""
        return describe(self.fd, _INFO_BYTES)


class LinkHook(Protocol):
    """A place in the kernel where a link attaches one program."""

    def attach(self, program: Program) -> Link:
        """Attaches the program; KernelError where the kernel refuses."""

    def holds(self, link: Link) -> bool:
        """Whether the link is here, and not at another place or at one that is gone."""


def create_link(
    program: Program, target: int, attach_type: int, subject: str, *, flags: int = 0
) -> Link:
    """Makes a link; `target` is a descriptor or a device's index, `attach_type` is of enum bpf_attach_type."""
    result = call(_LINK_CREATE, attributes_of("=IIII", program.fd, target, attach_type, flags))
    return Link(check("attach to", subject, result))
