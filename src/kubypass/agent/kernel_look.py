# SPDX-License-Identifier: Apache-2.0
"""A cheap look, once a second, at what others may undo in the kernel: forwarding, links, pins.

Where the kernel tells of a change (kernel/monitor.py), nothing has to be looked for. A look takes less than a
millisecond, whatever the number of pods: of their links it takes some, the next ones the next time (all of 50 pods
within 3 s). The links of the node's own devices and of its sockets it takes each time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from kubypass.agent.programs import Programs
from kubypass.node.facts import NodeState
from kubypass.node.sysctls import forwarding_off
from kubypass.settings.settings import Settings

_LINKS_A_LOOK = 40


class KernelLook:
    """Remembers what it has seen of the directories of pins."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[int, int]] = {}

    def disturbed(self, programs: Programs, node: NodeState, settings: Settings) -> str:
        """What somebody has undone, in words; empty where nothing was."""
        if off := forwarding_off(settings):
            return f"{off[0]} is off"
        own = [link.name for link in node.own_devices]
        if not programs.attachments.look(own, _LINKS_A_LOOK) or programs.lacks_filters(node):
            return "programs were detached or replaced"
        for directory, names in programs.pins().items():
            if self._lacks(directory, names):
                return f"pins below {directory} were removed"
        return ""

    def _lacks(self, directory: Path, names: Callable[[], set[str]]) -> bool:
        """Whether one of the names is missing. The directory is read only if it has changed."""
        try:
            found = os.stat(directory)
        except OSError:
            return bool(names())
        stamp = (found.st_dev, found.st_mtime_ns)
        if self._seen.get(directory) == stamp:
            return False
        if not names().issubset(os.listdir(directory)):
            return True
        self._seen[directory] = stamp
        return False
