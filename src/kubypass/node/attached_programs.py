# SPDX-License-Identifier: Apache-2.0
"""Which programs are attached to this node: the agent's note for the next agent, and for `kubypass trace`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from kubypass.kernel.files import write_file

_FILE = "state.json"


@dataclass(frozen=True, slots=True)
class AttachedPrograms:
    """The programs that are attached; both fields are empty where there are none."""

    signature: str = ""
    """Tells programs apart by their code, their constants and the sizes of their maps."""
    config: str = ""
    """The constants of the programs, in hexadecimal."""


def read_attached(run: Path) -> AttachedPrograms:
    """The note in a run directory; an empty one where there is none that can be read."""
    try:
        found = json.loads((run / _FILE).read_bytes())
        return AttachedPrograms(found["signature"], found["config"])
    except (OSError, ValueError, KeyError, TypeError):
        return AttachedPrograms()


def write_attached(run: Path, attached: AttachedPrograms) -> None:
    """Replaces the note."""
    write_file(run / _FILE, json.dumps(asdict(attached)).encode(), durable=False)


def forget_attached(run: Path) -> None:
    """Removes the note; that there is none is fine."""
    (run / _FILE).unlink(missing_ok=True)
