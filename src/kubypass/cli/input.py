# SPDX-License-Identifier: Apache-2.0
"""Reads what an option names: a file, or `-` for standard input. Only failures to read are errors of the option."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from kubypass.errors import ConfigError

_Part = TypeVar("_Part")


def open_input(option: str, path: Path, hint: str = "") -> BinaryIO:
    """Opens the file. ConfigError names the option, the path and the reason."""
    if str(path) == "-":
        return sys.stdin.buffer
    try:
        return path.open("rb")
    except OSError as error:
        raise ConfigError(f"{option} {path}: {error.strerror}", hint=hint) from None


def read_parts(option: str, path: Path, parts: Iterable[_Part], hint: str = "") -> Iterator[_Part]:
    """Yields the parts that are read from it. Where that fails, ConfigError names the option and the path."""
    try:
        yield from parts
    except ConfigError as error:
        raise ConfigError(f"{option} {path}: {error.message}", hint=error.hint) from None
    except OSError as error:
        raise ConfigError(f"{option} {path}: {error.strerror}", hint=hint) from None
