# SPDX-License-Identifier: Apache-2.0
"""Manifest files as the agent's source, watched by inotify."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kubypass.agent.log import log
from kubypass.agent.options import Options
from kubypass.agent.source.source import Trigger
from kubypass.api.metric import Metric
from kubypass.kernel.inotify import Watch
from kubypass.kube.client.writer import Subject
from kubypass.kube.manifests.manifest_source import ManifestSource
from kubypass.kube.snapshot import Snapshot
from kubypass.model.address import Address
from kubypass.model.problem import Problem
from kubypass.model.service import ServiceKey
from kubypass.settings.settings import Settings

_SETTLED_S = 2.0
"""How long after a write its event may be missing: a file is reported when its writer closes it."""
_SHOWN = 3
"""How many missed files are named."""


class Manifests:
    """A Source (see source.py) on top of kube's ManifestSource. It has nobody to write to."""

    complete = True

    def __init__(self, path: Path, *, proxy_name: str) -> None:
        self._source = ManifestSource(path, proxy_name=proxy_name)
        self._watch = Watch()

    @property
    def fd(self) -> int:
        """A descriptor that is readable when a file has changed."""
        return self._watch.fd

    @property
    def changed_nodes(self) -> set[str]:
        """Nodes that changed since the owner last cleared this set."""
        return self._source.changed_nodes

    def start(self) -> None:
        """Begins to watch, then reads every file, so that no change is missed between the two."""
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
        """Reads the files that changed; returns the services to plan again."""
        paths = self._watch.read()
        return set() if paths is not None and not paths else self._reread(paths)

    def _reread(self, paths: set[Path] | None) -> set[ServiceKey]:
        before = self._source.directories
        dirty = self._source.scan() if paths is None else self._source.reread(paths)
        if self._source.directories != before:
            self._watch_directories()
            dirty |= self._source.scan()
        return dirty

    def scan(self) -> set[ServiceKey]:
        """Reads every file that changed, reported or not; returns the services to plan again.

        A file that changes while this looks is reported as well, before or after: that is no missed change.
        """
        dirty = self._source.scan(settled_s=_SETTLED_S)
        found = self._source.changed_files
        if not found:
            return dirty
        reported = self._watch.read()
        missed = set() if reported is None else {f for f in found if not _is_told(f, reported)}
        if missed:
            names = " ".join(sorted(missed)[:_SHOWN])
            log("a change was missed until now", "WARNING", files=len(missed), names=names)
        return dirty | (set() if reported == set() else self._reread(reported))

    def take_pod_changes(self) -> bool:
        """No manifest holds metadata of pods."""
        return False

    def take_triggers(self) -> list[Trigger]:
        """No file says when its change was caused."""
        return []

    def use(self, settings: Settings) -> None:
        """Applies nothing: files have no servers, and their settings were known from the start."""

    def config_map(self, options: Options) -> None:
        """Returns nothing: settings come from the command line."""

    def refuse_own_service(self, services: Iterable[Address], settings: Settings) -> None:
        """Refuses nothing: no file is reached by the address of a service."""

    def announce(self, subject: Subject, reason: str, message: str, name: str = "") -> bool:  # noqa: ARG002
        """Writes nothing: files keep no events."""
        return True

    def say_ready(self, taint_key: str) -> None:
        """Writes nothing: files are never changed."""

    def status(self, *, started: bool) -> dict[str, object]:  # noqa: ARG002
        """There is no connection."""
        return {"text": "Disabled   (objects come from files)", "connected": None}

    def metrics(self) -> list[Metric]:
        """There is no connection."""
        return []

    def _watch_directories(self) -> None:
        for directory in self._source.directories:
            self._watch.add(Path(directory))


def _is_told(path: str, reported: set[Path]) -> bool:
    """Whether events name the file, a directory above it, or the `..data` link of its mounted ConfigMap."""
    file = Path(path)
    return not reported.isdisjoint({file, *file.parents, file.parent / "..data"})
