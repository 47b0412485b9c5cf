# SPDX-License-Identifier: Apache-2.0
"""What the agent changed on its node, on disk before it is done, so that `kubypass cleanup` can put it back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kubypass.kernel import sysctl

_FILE = "state.json"


@dataclass(slots=True)
class State:
    """The record. `signature` names the programs that are attached."""

    run: Path
    signature: str = ""
    config: str = ""
    """The constants of the programs, in hexadecimal; `kubypass trace` runs with the same."""
    tcx: bool = True
    devices: list[str] = field(default_factory=list)
    mounted_bpffs: bool = False
    sysctls: dict[str, str] = field(default_factory=dict)
    """Original values."""
    cni_conf_dir: str = ""
    """Where our network configuration is, and others are set aside; empty where there is none."""
    cni_bin_dir: str = ""

    def save(self) -> None:
        """Writes the record in one step."""
        fields = asdict(self)
        del fields["run"]
        temporary = self.run / f".{_FILE}"
        temporary.write_text(json.dumps(fields, indent=1))
        temporary.replace(self.run / _FILE)

    def set_sysctl(self, name: str, value: str) -> bool:
        """Sets a sysctl, its original recorded first; False where nothing had to be done."""
        current = sysctl.read(name)
        if current is None or current == value:
            return False
        self.sysctls.setdefault(name, current)
        self.save()
        sysctl.write(name, value)
        return True


def load_state(run: Path) -> State:
    """The record in a run directory; an empty one where there is none that can be read."""
    try:
        fields = json.loads((run / _FILE).read_text())
        known = {name: fields[name] for name in State.__slots__ if name in fields}
        return State(run, **known)
    except (OSError, ValueError, TypeError):
        return State(run)


def forget_state(run: Path) -> None:
    """Removes the record: nothing is left to put back."""
    (run / _FILE).unlink(missing_ok=True)
