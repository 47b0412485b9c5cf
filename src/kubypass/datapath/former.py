# SPDX-License-Identifier: Apache-2.0
"""The programs of the version before, which know connections that its maps still have to themselves.

While links are switched one after another, new connections are opened in the former maps, which both versions see: ours
hand over every packet of a connection that they do not know. Then ours open them, and hand over what may belong to a
connection that is not carried over yet. A version that has none to ask costs nothing (bpf/conntrack.h, ask_former).
"""

from __future__ import annotations

import struct
from pathlib import Path

from kubypass.errors import KernelError
from kubypass.kernel.bpf import Map
from kubypass.kernel.program import Program
from kubypass.model.verdict import Hook, PreviousKind

FORMER = "previous_programs"
_KINDS = (PreviousKind.KNOWN, PreviousKind.ALL)
_HOOKS = (Hook.FROM_POD, Hook.TO_POD, Hook.FROM_UPLINK, Hook.TO_UPLINK, Hook.TO_SELF)


def ask_pinned(former: Map, programs: Path, notes: list[str]) -> None:
    """About all that we do not know; `programs` is where the former ones are pinned."""
    for hook in _HOOKS:
        name = hook.name.lower()
        path = programs / name
        if hook == Hook.TO_SELF and not path.exists():
            continue  # the first versions had none
        try:
            ask(former, hook, Program.open_pinned(str(path)))
        except (KernelError, FileNotFoundError) as error:
            notes.append(f"{name}: connections that begin during the upgrade may fail: {error}")


def ask(former: Map, hook: Hook, program: Program) -> None:
    """One program, about all that the same hook's of ours does not know."""
    for kind in _KINDS:
        former.update(_key(kind, hook), struct.pack("=I", program.fd))


def let_us_open(former: Map) -> None:
    """Ask no more about new connections: every link has our programs."""
    _forget(former, PreviousKind.ALL)


def let_go(former: Map) -> None:
    """Ask nothing more."""
    for kind in _KINDS:
        _forget(former, kind)


def _forget(former: Map, kind: PreviousKind) -> None:
    for hook in _HOOKS:
        former.delete(_key(kind, hook))


def _key(kind: PreviousKind, hook: Hook) -> bytes:
    return struct.pack("=I", kind * Hook.MAX + hook)
