# SPDX-License-Identifier: Apache-2.0
"""One connection as a node remembers it, and what is right for one packet."""

from __future__ import annotations

from dataclasses import dataclass

from tests.packet.reference_objects import Backend, ItemKey

Key = tuple[str, int, str, int, str]
"""Source and destination with their ports, and the protocol."""
_FIRST, _PAYLOAD, _REPEATS = 100, 5, 2
"""The number of every segment, its bytes, and how often a SYN may be repeated in DSR mode."""


@dataclass
class Connection:
    """One that is translated."""

    client: tuple[str, int]
    dialled: tuple[str, int]
    protocol: str
    backend: Backend
    source: tuple[str, int]
    """The client as the backend sees it."""
    item: ItemKey | None
    hook: str
    lost: bool = False
    """The backend was gone for a while: the connection may be judged again even if there is another by now."""
    orphan: bool = False
    """The service was gone for a while."""
    uncertain: bool = False
    """The service had no frontend when the agent started again."""

    direct: bool = False
    """In DSR mode: the backend's node answers, so the client's segments alone tell of its state."""
    state: str = "new"
    """One of new, open and closed; it counts in DSR mode only."""
    end: int = 0
    repeated: int = 0
    """Where the first segment's data ends, and how often it came again."""

    @property
    def reply(self) -> Key:
        return (*self.backend, *self.source, self.protocol)

    def is_in_vain(self, flags: str) -> bool:
        """Whether the client repeats its SYN once too often."""
        again = self.state == "new" and flags == "S" and self.end == end_of(flags)
        return self.direct and self.protocol == "TCP" and again and self.repeated >= _REPEATS

    def take(self, flags: str) -> bool:
        """Takes in a packet of the client in DSR mode; returns whether it names the frontend."""
        if self.protocol == "UDP":
            return True
        if flags == "S":
            if self.state == "new":
                self.repeated = self.repeated + 1 if self.end == end_of(flags) else 0
                self.end = end_of(flags)
            return True
        if self.state == "new":
            self.state = "open"
        if flags in {"FA", "R"}:
            self.state = "closed"
        return False


def end_of(flags: str) -> int:
    """The number after a segment's data."""
    return _FIRST + _PAYLOAD + ("S" in flags or "F" in flags)


@dataclass(frozen=True)
class Expected:
    """What is right for one packet."""

    kind: str
    """translated, untouched, reject or the name of a drop."""
    backends: frozenset[Backend] = frozenset()
    item: ItemKey | None = None
    masquerade: bool = False
    connection: Connection | None = None
    """That it goes on with; None: it is a new one."""
    may_follow: Connection | None = None
    """That it may go on with as well."""
    apart: bool = False
    """No service's: only the source port may change."""
    by_pod: bool = False
    """A pod has sent it: outside of the cluster, it has the node's address."""
    direct: bool = False
    """Backends on other nodes answer by themselves, where they can."""
    in_vain: bool = False
    """The client has repeated its SYN in DSR mode: it is masqueraded."""
