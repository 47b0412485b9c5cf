# SPDX-License-Identifier: Apache-2.0
"""A cheap look, once a second, at what others may undo in the kernel: links, filters, pins.

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

_LINKS_A_LOOK = 40


class KernelLook:
    """Remembers what it has seen of the directories of pins."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[int, int]] = {}

    def undone(self, programs: Programs, node: NodeState, links: int = _LINKS_A_LOOK) -> set[str]:
        """What somebody has undone, in words, each by itself; `links` is how many of the pods' are looked at."""
        own = [link.name for link in node.own_devices]
        found = {
            f"the program at {name} was detached or replaced"
            for name in programs.attachments.look(own, links)
        }
        found |= {
            f"filters of {name} were removed" for name in programs.network.without_filters(node)
        }
        for directory, names in programs.pins().items():
            if self._lacks(directory, names):
                found.add(f"pins below {directory} were removed")
        return found

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
