# SPDX-License-Identifier: Apache-2.0
"""Objects from many files as one cluster: where each comes from, and what a change touches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubypass.kube.snapshot import Snapshot
from kubypass.kube.store import Cluster, Dirty
from kubypass.model.problem import Problem

if TYPE_CHECKING:
    from kubypass.kube.manifests.parser import Contents, Object, ObjectKey


class Registry:
    """Of two files with the same object, the first in order of path counts."""

    def __init__(self) -> None:
        self._cluster = Cluster()
        self._files: dict[str, Contents] = {}
        self._holder: dict[ObjectKey, str] = {}
        self._rivals: dict[ObjectKey, list[str]] = {}
        self._with_problems: dict[str, Contents] = {}
        self._ignored = 0

    @property
    def ignored(self) -> int:
        """Objects that were read and are of no use here."""
        return self._ignored

    def contents(self, path: str) -> Contents | None:
        """What the file said last."""
        return self._files.get(path)

    def replace(self, path: str, contents: Contents | None, dirty: Dirty) -> None:
        """Put a file's new contents (None: it is gone) in place; add to `dirty` what changes."""
        before = self._files.pop(path, None)
        if contents is not None:
            self._files[path] = contents
        self._with_problems.pop(path, None)
        if contents is not None and contents.problems:
            self._with_problems[path] = contents
        self._ignored += (contents.ignored if contents else 0) - (before.ignored if before else 0)
        old = before.objects if before else {}
        new = contents.objects if contents else {}
        for key in old.keys() - new.keys():
            self._release(path, key, old[key], dirty)
        for key, item in new.items():
            self._claim(path, key, old.get(key), item, dirty)

    def snapshot(self, problems: tuple[Problem, ...] = ()) -> Snapshot:
        """Views of all objects; these problems, and what is wrong with them now."""
        return self._cluster.snapshot((*problems, *self.problems()))

    def problems(self) -> tuple[Problem, ...]:
        """Of all files, in order of path; and objects that several files have."""
        found = [
            problem
            for _, contents in sorted(dict(self._with_problems).items())
            for problem in contents.problems
        ]
        for key, paths in sorted(dict(self._rivals).items()):
            name = "/".join(part for part in key[1:] if part)
            found.append(
                Problem(
                    f"{key[0]} {name}",
                    f"is in {' and '.join(sorted(paths))}; expected one; the first one is used",
                )
            )
        return tuple(found)

    def _claim(
        self, path: str, key: ObjectKey, old: Object | None, new: Object, dirty: Dirty
    ) -> None:
        holder = self._holder.setdefault(key, path)
        if holder != path:
            rivals = self._rivals.setdefault(key, [holder])
            if path not in rivals:
                rivals.append(path)
            if path > holder:
                return
            self._holder[key] = path
            old = self._files[holder].objects.get(key)
        if old != new:
            self._cluster.store(key, old, new, dirty)

    def _release(self, path: str, key: ObjectKey, old: Object, dirty: Dirty) -> None:
        holder = self._holder[key]
        rivals = self._rivals.get(key)
        successor: str | None = None
        if rivals:
            rivals.remove(path)
            successor = min(rivals)
            if len(rivals) == 1:
                del self._rivals[key]
        if holder != path:
            return
        if successor is None:
            del self._holder[key]
            self._cluster.store(key, old, None, dirty)
        else:
            self._holder[key] = successor
            self._cluster.store(key, old, self._files[successor].objects[key], dirty)
