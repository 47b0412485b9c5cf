# SPDX-License-Identifier: Apache-2.0
"""Manifest files as a source of cluster objects: one file, or a directory with everything below it.

This module watches nothing. After an inotify event, the caller passes the paths to `reread`. `scan` finds changed files
by inode, time and size; `changed_files` has their paths. A file that cannot be read keeps its last good objects. Hidden
files and files with other suffixes than .json, .yaml and .yml are ignored.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kubypass.errors import ConfigError
from kubypass.kube.convert.converter import Converter
from kubypass.kube.manifests.documents import SUFFIXES
from kubypass.kube.manifests.merged_files import MergedFiles
from kubypass.kube.manifests.parser import EMPTY, Parser
from kubypass.kube.snapshot import Snapshot
from kubypass.kube.store import Dirty
from kubypass.model.problem import Problem
from kubypass.regular_file import read_regular_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kubypass.model.service import ServiceKey

_Stamp = tuple[int, int, int]
_NO_STAMP: _Stamp = (0, 0, 0)


class ManifestSource:
    """Reads the manifests at a path.

    `proxy_name` is the setting `k8s-service-proxy-name`. `every_pod` includes pods without host ports.
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
        self.changed_files: set[str] = set()
        """The files that the last scan found new, changed or gone."""
        self._root = str(self.path)
        self._files = MergedFiles()
        self._parser = Parser(Converter(proxy_name, every_pod))
        self._stamps: dict[str, _Stamp] = {}
        self._unreadable_files: dict[str, Problem] = {}
        self._directories: tuple[str, ...] = ()

    @property
    def directories(self) -> tuple[str, ...]:
        """The directories to watch: all that the last scan saw, or the one that holds the file."""
        return self._directories

    @property
    def ignored(self) -> int:
        """How many objects were read and are of no use here, such as Deployments and headless Services."""
        return self._files.ignored

    @property
    def files(self) -> int:
        """How many manifest files there are."""
        return len(self._stamps)

    def read(self) -> Snapshot:
        """Scans the files and returns all objects."""
        self.scan()
        return self.snapshot()

    def snapshot(self) -> Snapshot:
        """Views of all objects, without touching a file."""
        return self._files.snapshot(self._read_errors())

    def problems(self) -> tuple[Problem, ...]:
        """All present problems."""
        return self._read_errors() + self._files.problems()

    def _read_errors(self) -> tuple[Problem, ...]:
        return tuple(problem for _, problem in sorted(dict(self._unreadable_files).items()))

    def scan(self, *, settled_s: float = 0.0) -> set[ServiceKey]:
        """Reads the files that changed. Returns the services to plan again.

        A file that was written within the last `settled_s` seconds is left alone: it may be half written.
        """
        self.changed_files = set()
        self._unreadable_files.pop(self._root, None)
        directories: list[str] = []
        try:
            present = dict(self._find(directories))
        except OSError as error:
            message = f"{error.strerror}; expected a readable directory; what it said last is kept"
            self._unreadable_files[self._root] = Problem(f"Manifests {self._root}", message)
            return set()
        self._directories = tuple(directories)
        dirty = Dirty()
        for path in self._stamps.keys() - present.keys():
            self.changed_files.add(path)
            self._forget(path, dirty)
        for path, stamp in present.items():
            if self._stamps.get(path) != stamp and not _is_younger(stamp, settled_s):
                self.changed_files.add(path)
                self._read_file(path, dirty)
        return self._finish(dirty)

    def reread(self, paths: Iterable[str | os.PathLike[str]]) -> set[ServiceKey]:
        """Reads these files again; they may be new or gone. Returns the services to plan again.

        A path that is a directory, or the `..data` link of a mounted ConfigMap, causes a scan.
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
        """Yields every manifest with its stamp. Adds the visited directories to `directories`."""
        if not os.path.isdir(self._root):
            directories.append(os.path.dirname(self._root))
            yield self._root, _stamp(os.stat(self._root))
            return
        waiting = [self._root]
        while waiting:
            directory = waiting.pop()
            directories.append(directory)
            for entry in self._entries(directory):
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.name.endswith(SUFFIXES):
                    try:
                        yield entry.path, _stamp(entry.stat())
                    except OSError:
                        yield entry.path, _NO_STAMP

    def _entries(self, directory: str) -> list[os.DirEntry[str]]:
        """What is in a directory; one below the root that cannot be read is a problem of its own."""
        try:
            with os.scandir(directory) as found:
                entries = list(found)
        except FileNotFoundError:
            if directory == self._root:
                raise
            return []
        except OSError as error:
            if directory == self._root:
                raise
            message = f"{error.strerror}; expected a readable directory; its files are not read"
            self._unreadable_files[directory] = Problem(f"Manifests {directory}", message)
            return []
        if directory != self._root:
            self._unreadable_files.pop(directory, None)
        return entries

    def _read_file(self, path: str, dirty: Dirty) -> None:
        """Reads and parses a file, and replaces its objects."""
        try:
            found, content = read_regular_file(path)
            stamp = _stamp(found)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and path != self._root:
                self._forget(path, dirty)
                return
            reason = error.strerror or str(error)
            message = f"{reason}; expected a readable file; what it said last is kept"
            self._unreadable_files[path] = Problem(f"File {self._label(path)}", message)
            self._stamps.setdefault(path, _NO_STAMP)
            return
        self._unreadable_files.pop(path, None)
        last_good = self._files.parsed(path) or EMPTY
        parsed = self._parser.parse(self._label(path), content, last_good)
        self._stamps[path] = stamp
        self._files.replace(path, parsed, dirty)

    def _forget(self, path: str, dirty: Dirty) -> None:
        self._stamps.pop(path, None)
        self._unreadable_files.pop(path, None)
        self._files.replace(path, None, dirty)

    def _label(self, path: str) -> str:
        """The file in problems: its path below the directory, or its name."""
        return os.path.relpath(path, self._root) if path != self._root else os.path.basename(path)


def _is_younger(stamp: _Stamp, seconds: float) -> bool:
    """Whether the file was written within the last `seconds`; a time in the future says nothing."""
    return 0 <= time.time_ns() - stamp[1] < seconds * 10**9


def _stamp(found: os.stat_result) -> _Stamp:
    return (found.st_ino, found.st_mtime_ns, found.st_size)
