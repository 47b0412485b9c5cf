# SPDX-License-Identifier: Apache-2.0
"""Where maps, programs and links are pinned on a bpffs.

<bpffs>/kubypass/<layout hash>/<map>       maps; another layout is another directory
<bpffs>/kubypass/programs/<program>        the programs that new pods get
<bpffs>/kubypass/links/<hook or device>    attachments (attach.py)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kubypass.datapath import layout
from kubypass.kernel.bpf import Map


@dataclass(frozen=True, slots=True)
class Pins:
    """The directories of one node below its bpffs."""

    bpffs: Path

    @property
    def root(self) -> Path:
        """Everything that kubypass pins is below this directory."""
        return self.bpffs / "kubypass"

    @property
    def maps(self) -> Path:
        """Maps whose structs are this version's."""
        return self.root / layout.LAYOUT_HASH

    @property
    def programs(self) -> Path:
        """One pin a program, whatever its version."""
        return self.root / "programs"

    @property
    def links(self) -> Path:
        """One pin a hook or device."""
        return self.root / "links"

    def open_map(self, name: str) -> Map:
        """Opens one of this version's maps; KernelError where it is not pinned."""
        return Map.open_pinned(str(self.maps / name))

    def other_layouts(self) -> list[Path]:
        """Directories of maps that another version left, the most recently changed last."""
        if not self.root.is_dir():
            return []
        known = (self.links, self.programs, self.maps)
        others = [path for path in self.root.iterdir() if path not in known]
        return sorted(others, key=lambda path: path.stat().st_mtime)
