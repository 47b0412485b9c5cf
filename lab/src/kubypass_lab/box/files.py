# SPDX-License-Identifier: Apache-2.0
"""Small JSON files that other processes read: a file appears whole, by a rename."""

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
    """Write `value` to `path` by a rename. Returns False, and writes nothing, if the file already has this content."""
    text = json.dumps(value, indent=1, default=str) + "\n"
    if path.is_file() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text.encode(), durable=False)
    return True


def read_json(path: Path) -> Json | None:
    """The object in `path`, or None if there is no such file or it is not complete JSON."""
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return value if isinstance(value, dict) else None


def read_all(directory: Path) -> list[Json]:
    """The objects in all `*.json` files of `directory`, ordered by file name."""
    objects = (read_json(path) for path in sorted(directory.glob("[!.]*.json")))
    return [each for each in objects if each is not None]


def mapping(value: object) -> Json:
    """`value` if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of `directory`, so that one process at a time changes a box."""
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
