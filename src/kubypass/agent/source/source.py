# SPDX-License-Identifier: Apache-2.0
"""What the agent asks of a source of cluster objects, and files as one; the other is kube.api_source."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from kubypass.kernel.inotify import Watch
from kubypass.kube.manifests.manifest_source import ManifestSource
from kubypass.kube.snapshot import Snapshot
from kubypass.kube.watch.watch_state import ConnectionState
from kubypass.model.problem import Problem
from kubypass.model.service import ServiceKey


class Source(Protocol):
    """Objects of the cluster, kept up to date by whoever calls `take` when `fd` is readable."""

    changed_nodes: set[str]
    """Nodes that changed since the caller last cleared this."""
    changed_pods: bool
    """Whether metadata of pods did; likewise."""
    triggers: list[tuple[ServiceKey, str]]
    """Services whose endpoints changed, and when the cause happened (RFC 3339); likewise."""

    @property
    def fd(self) -> int:
        """Readable when something has come."""

    @property
    def complete(self) -> bool:
        """Whether everything was seen once."""

    @property
    def connection(self) -> ConnectionState | None:
        """The state of the connection to the API; None for files."""

    def start(self) -> None:
        """Begins to watch."""

    def stop(self) -> None:
        """Ends."""

    def snapshot(self) -> Snapshot:
        """Views of what is known."""

    def problems(self) -> tuple[Problem, ...]:
        """What is wrong."""

    def take(self) -> set[ServiceKey]:
        """Takes in what has come; services to plan anew."""

    def scan(self) -> set[ServiceKey]:
        """Looks for itself at what should have been told; services to plan anew."""


class Manifests:
    """Files that are watched by inotify."""

    connection = None
    complete = True

    def __init__(self, path: Path, *, proxy_name: str) -> None:
        self.changed_pods = False
        self.triggers: list[tuple[ServiceKey, str]] = []
        self._source = ManifestSource(path, proxy_name=proxy_name)
        self._watch = Watch()

    @property
    def fd(self) -> int:
        """Readable when a file changed."""
        return self._watch.fd

    @property
    def changed_nodes(self) -> set[str]:
        """Nodes that changed since the caller last cleared this."""
        return self._source.changed_nodes

    @changed_nodes.setter
    def changed_nodes(self, nodes: set[str]) -> None:
        self._source.changed_nodes = nodes

    def start(self) -> None:
        """Watches, then looks at every file, so that no change falls between."""
        path = self._source.path
        self._watch.add(path if path.is_dir() else path.parent)
        self._source.scan()
        self._watch_directories()
        self.take()

    def stop(self) -> None:
        """Ends the watch."""
        self._watch.close()

    def snapshot(self) -> Snapshot:
        """Views of what the files say."""
        return self._source.snapshot()

    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with files and objects."""
        return self._source.problems()

    def take(self) -> set[ServiceKey]:
        """Reads the files that changed; services to plan anew."""
        paths = self._watch.read()
        if paths is not None and not paths:
            return set()
        before = self._source.directories
        dirty = self._source.scan() if paths is None else self._source.reread(paths)
        if self._source.directories != before:
            self._watch_directories()
            dirty |= self._source.scan()
        return dirty

    def scan(self) -> set[ServiceKey]:
        """Looks at every file; services to plan anew."""
        return self._source.scan()

    def _watch_directories(self) -> None:
        for directory in self._source.directories:
            self._watch.add(Path(directory))
