# SPDX-License-Identifier: Apache-2.0
"""The programs of the previous version, which know connections that only its maps hold.

While links are switched one after another, new connections are opened in the previous maps, which both versions see:
our programs hand over every packet of a connection that they do not know. Once every link is ours, our programs open
connections, and hand over only packets that may belong to a connection that is not copied yet. Without an upgrade the
map is empty and costs nothing (bpf/conntrack.h, try_previous).
"""

from __future__ import annotations

import struct
from pathlib import Path

from kubypass.datapath.attach import l3_program
from kubypass.errors import KernelError
from kubypass.kernel.bpf import Map
from kubypass.kernel.program import Program
from kubypass.model.verdict import Hook, PreviousKind

MAP = "previous_programs"
_KINDS = (PreviousKind.KNOWN, PreviousKind.ALL)
_HOOKS = (Hook.FROM_POD, Hook.TO_POD, Hook.FROM_UPLINK, Hook.TO_UPLINK, Hook.TO_SELF)


def attach_pinned(target: Map, programs: Path, notes: list[str]) -> None:
    """Puts the programs that are pinned in `programs` behind ours, for every packet that we do not know."""
    for hook in _HOOKS:
        name = hook.name.lower()
        path = programs / name
        if hook == Hook.TO_SELF and not path.exists():
            continue  # the first versions had none
        try:
            attach(target, hook, Program.open_pinned(str(path)))
        except (KernelError, FileNotFoundError) as error:
            notes.append(f"{name}: connections that begin during the upgrade may fail: {error}")
        bare = programs / l3_program(name)
        if bare.exists():
            attach(target, hook, Program.open_pinned(str(bare)), l3=True)


def attach(target: Map, hook: Hook, program: Program, *, l3: bool = False) -> None:
    """Puts one program behind ours of the same hook; `l3` for devices without Ethernet header."""
    for kind in _KINDS:
        target.update(_key(kind, hook, l3=l3), struct.pack("=I", program.fd))


def stop_new(target: Map) -> None:
    """Tries the previous programs no longer for new connections: every link has our programs."""
    _remove(target, PreviousKind.ALL)


def detach(target: Map) -> None:
    """Tries the previous programs for nothing any more."""
    for kind in _KINDS:
        _remove(target, kind)


def _remove(target: Map, kind: PreviousKind) -> None:
    for hook in _HOOKS:
        for l3 in (False, True):
            target.delete(_key(kind, hook, l3=l3))


def _key(kind: PreviousKind, hook: Hook, *, l3: bool) -> bytes:
    return struct.pack("=I", (kind + l3 * PreviousKind.MAX) * Hook.MAX + hook)
