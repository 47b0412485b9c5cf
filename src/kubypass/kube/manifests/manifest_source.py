# SPDX-License-Identifier: Apache-2.0
"""Manifests in files as a source of cluster objects: a file, or a directory with all below it.

Nothing is watched here: whoever is told of a change (inotify) calls `reread` with the paths;
`scan` finds out by itself, by comparing inode, time and size of every file. A file that cannot be
read keeps what it said last. Files of other names (not .json, .yaml, .yml) and hidden ones are not
looked at.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kubypass.errors import ConfigError
from kubypass.kube.manifests.documents import SUFFIXES
from kubypass.kube.manifests.merged_files import Registry
from kubypass.kube.manifests.parser import EMPTY, Contents, Reading
from kubypass.kube.snapshot import Snapshot
from kubypass.kube.store import Dirty
from kubypass.model.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kubypass.model.service import ServiceKey

_Stamp = tuple[int, int, int]
_NO_STAMP: _Stamp = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Changes:
    """What a pass over the files found."""

    dirty: set[ServiceKey]
    problems: tuple[Problem, ...]


class ManifestSource:
    """Follows the manifests at a path.

    `proxy_name` is the setting `k8s-service-proxy-name`; `every_pod`: those without ports of their node, too.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, proxy_name: str = "", every_pod: bool = False
    ) -> None:
        self.path = Path(os.path.abspath(path))
        if not self.path.exists():
            message = f"--manifests {path}: no such file or directory"
            raise ConfigError(
                message, hint="give a directory or a file with Kubernetes YAML or JSON"
            )
        self.changed_nodes: set[str] = set()
        """Nodes that changed since the caller last cleared this."""
        self._root = str(self.path)
        self._registry = Registry()
        self._reading = Reading(proxy_name, every_pod)
        self._stamps: dict[str, _Stamp] = {}
        self._unreadable: dict[str, Problem] = {}
        self._directories: tuple[str, ...] = ()

    @property
    def directories(self) -> tuple[str, ...]:
        """What to watch: every directory that the last scan saw, or the one that holds the file."""
        return self._directories

    @property
    def ignored(self) -> int:
        """Objects that were read and are of no use here (Deployments, headless services…)."""
        return self._registry.ignored

    @property
    def files(self) -> int:
        """Manifest files at present."""
        return len(self._stamps)

    def read(self) -> Snapshot:
        """Look at every file and give what they say together."""
        self.scan()
        return self.snapshot()

    def changes(self) -> Changes:
        """Look at every file; what has to be planned anew, and everything that is wrong."""
        dirty = self.scan()
        return Changes(dirty, self.problems())

    def snapshot(self) -> Snapshot:
        """What is known; no file is touched."""
        return self._registry.snapshot(self._unread())

    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong at present."""
        return self._unread() + self._registry.problems()

    def _unread(self) -> tuple[Problem, ...]:
        return tuple(problem for _, problem in sorted(dict(self._unreadable).items()))

    def scan(self) -> set[ServiceKey]:
        """Look at every file, read those that changed; services to plan anew."""
        self._unreadable.pop(self._root, None)
        directories: list[str] = []
        try:
            present = dict(self._find(directories))
        except OSError as error:
            message = f"{error.strerror}; expected a readable directory; what it said last is kept"
            self._unreadable[self._root] = Problem(f"Manifests {self._root}", message)
            return set()
        self._directories = tuple(directories)
        dirty = Dirty()
        for path in self._stamps.keys() - present.keys():
            self._forget(path, dirty)
        for path, stamp in present.items():
            if self._stamps.get(path) != stamp:
                self._read_file(path, dirty)
        return self._finish(dirty)

    def reread(self, paths: Iterable[str | os.PathLike[str]]) -> set[ServiceKey]:
        """Look at these files again (they may be new, or gone); services to plan anew.

        A path that is a directory, or a link in the manner of mounted ConfigMaps, causes a scan.
        """
        dirty = Dirty()
        for path in {os.path.abspath(path) for path in paths}:
            if self._is_manifest(path) and not os.path.isdir(path):
                self._read_file(path, dirty)
            elif (
                os.path.basename(path) == "..data"
                or path in self._directories
                or os.path.isdir(path)
            ):
                dirty.services |= self.scan()
        return self._finish(dirty)

    def _finish(self, dirty: Dirty) -> set[ServiceKey]:
        self.changed_nodes |= dirty.nodes
        return dirty.services

    def _is_manifest(self, path: str) -> bool:
        if path == self._root:
            return True
        relative = path.removeprefix(self._root + os.sep)
        hidden = any(part.startswith(".") for part in relative.split(os.sep))
        return relative != path and not hidden and path.endswith(SUFFIXES)

    def _find(self, directories: list[str]) -> Iterator[tuple[str, _Stamp]]:
        """Every manifest with its stamp; adds the directories that were visited."""
        if not os.path.isdir(self._root):
            directories.append(os.path.dirname(self._root))
            yield self._root, _stamp(os.stat(self._root))
            return
        waiting = [self._root]
        while waiting:
            directory = waiting.pop()
            directories.append(directory)
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif entry.name.endswith(SUFFIXES):
                        try:
                            yield entry.path, _stamp(entry.stat())
                        except OSError:
                            yield entry.path, _NO_STAMP

    def _read_file(self, path: str, dirty: Dirty) -> None:
        """Take in what the file says now."""
        try:
            with open(path, "rb", buffering=0) as file:
                stamp = _stamp(os.fstat(file.fileno()))
                content = file.read()
        except OSError as error:
            if isinstance(error, FileNotFoundError) and path != self._root:
                self._forget(path, dirty)
                return
            message = f"{error.strerror}; expected a readable file; what it said last is kept"
            self._unreadable[path] = Problem(f"File {self._label(path)}", message)
            self._stamps.setdefault(path, _NO_STAMP)
            return
        self._unreadable.pop(path, None)
        last_good = self._registry.contents(path) or EMPTY
        contents: Contents = self._reading.read(self._label(path), content, last_good)
        self._stamps[path] = stamp
        self._registry.replace(path, contents, dirty)

    def _forget(self, path: str, dirty: Dirty) -> None:
        self._stamps.pop(path, None)
        self._unreadable.pop(path, None)
        self._registry.replace(path, None, dirty)

    def _label(self, path: str) -> str:
        """How problems call the file: below the directory, or its name."""
        return os.path.relpath(path, self._root) if path != self._root else os.path.basename(path)


def _stamp(found: os.stat_result) -> _Stamp:
    return (found.st_ino, found.st_mtime_ns, found.st_size)
