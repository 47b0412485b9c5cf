# SPDX-License-Identifier: Apache-2.0
"""Merges the objects of many files into one store: which file each object comes from, and what a change affects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubypass.kube.snapshot import Snapshot
from kubypass.kube.store import Dirty, Store
from kubypass.model.problem import Problem

if TYPE_CHECKING:
    from kubypass.kube.manifests.parser import ParsedFile
    from kubypass.kube.store import Object, ObjectKey


class MergedFiles:
    """If several files have the same object, the file whose path sorts first wins."""

    def __init__(self) -> None:
        self._store = Store()
        self._files: dict[str, ParsedFile] = {}
        self._file_of: dict[ObjectKey, str] = {}
        self._duplicates: dict[ObjectKey, list[str]] = {}
        """All paths of every object that several files have."""
        self._with_problems: dict[str, ParsedFile] = {}
        self._ignored = 0

    @property
    def ignored(self) -> int:
        """How many objects were read and are of no use here."""
        return self._ignored

    def parsed(self, path: str) -> ParsedFile | None:
        """The file as it was parsed last."""
        return self._files.get(path)

    def replace(self, path: str, parsed: ParsedFile | None, dirty: Dirty) -> None:
        """Replaces what a file says (None: the file is gone). Adds to `dirty` what changes."""
        before = self._files.pop(path, None)
        if parsed is not None:
            self._files[path] = parsed
        self._with_problems.pop(path, None)
        if parsed is not None and parsed.problems:
            self._with_problems[path] = parsed
        self._ignored += (parsed.ignored if parsed else 0) - (before.ignored if before else 0)
        old = before.objects if before else {}
        new = parsed.objects if parsed else {}
        for key in old.keys() - new.keys():
            self._remove(path, key, old[key], dirty)
        for key, item in new.items():
            self._set(path, key, old.get(key), item, dirty)

    def snapshot(self, problems: tuple[Problem, ...] = ()) -> Snapshot:
        """Views of all objects, with these problems and those of the files."""
        return self._store.snapshot((*problems, *self.problems()))

    def problems(self) -> tuple[Problem, ...]:
        """The problems of all files in order of path, then the objects that several files have."""
        found = [
            problem
            for _, parsed in sorted(dict(self._with_problems).items())
            for problem in parsed.problems
        ]
        for key, paths in sorted(dict(self._duplicates).items()):
            name = "/".join(part for part in key[1:] if part)
            found.append(
                Problem(
                    f"{key[0]} {name}",
                    f"is in {' and '.join(sorted(paths))}; expected one; the first one is used",
                )
            )
        return tuple(found)

    def _set(
        self, path: str, key: ObjectKey, old: Object | None, new: Object, dirty: Dirty
    ) -> None:
        winner = self._file_of.setdefault(key, path)
        if winner != path:
            duplicates = self._duplicates.setdefault(key, [winner])
            if path not in duplicates:
                duplicates.append(path)
            if path > winner:
                return
            self._file_of[key] = path
            old = self._files[winner].objects.get(key)
        if old != new:
            self._store.put(key, old, new, dirty)

    def _remove(self, path: str, key: ObjectKey, old: Object, dirty: Dirty) -> None:
        winner = self._file_of[key]
        duplicates = self._duplicates.get(key)
        successor: str | None = None
        if duplicates:
            duplicates.remove(path)
            successor = min(duplicates)
            if len(duplicates) == 1:
                del self._duplicates[key]
        if winner != path:
            return
        if successor is None:
            del self._file_of[key]
            self._store.put(key, old, None, dirty)
        else:
            self._file_of[key] = successor
            self._store.put(key, old, self._files[successor].objects[key], dirty)
