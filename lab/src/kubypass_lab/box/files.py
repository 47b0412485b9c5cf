# SPDX-License-Identifier: Apache-2.0
"""Small files that other processes follow: written whole by rename, read as JSON."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubypass.errors import KubypassError
from kubypass.kernel.files import write_file

Json = dict[str, object]


def write_json(path: Path, value: Json) -> bool:
    """Write `value` to `path` by rename; returns False, writing nothing, if it is there already."""
    text = json.dumps(value, indent=1, default=str) + "\n"
    if path.is_file() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text.encode(), durable=False)
    return True


def read_json(path: Path) -> Json | None:
    """The object in `path`, or None if there is no such file or it is not whole."""
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return value if isinstance(value, dict) else None


def read_all(directory: Path) -> list[Json]:
    """The objects in all `*.json` files of `directory`, in the order of their names."""
    objects = (read_json(path) for path in sorted(directory.glob("[!.]*.json")))
    return [each for each in objects if each is not None]


def mapping(value: object) -> Json:
    """Return `value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold `directory`'s lock: one process at a time changes a box."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"another command is changing {directory}"
            raise KubypassError(message, "wait for it to end, then try again") from error
        yield
    finally:
        os.close(descriptor)
