# SPDX-License-Identifier: Apache-2.0
"""Sysctls, by their dotted names. A name whose device part holds dots is written with slashes, as in sysctl(8)."""

from __future__ import annotations

from pathlib import Path

from kubypass.errors import KernelError


def _path(name: str) -> Path:
    return Path("/proc/sys") / (name if "/" in name else name.replace(".", "/"))


def read(name: str) -> str | None:
    """The value, or None where this kernel has no such sysctl."""
    try:
        return _path(name).read_text().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KernelError("read sysctl", name, error.errno or 0) from None


def write(name: str, value: str) -> None:
    """Sets the value."""
    try:
        _path(name).write_text(f"{value}\n")  # also where the value is empty
    except OSError as error:
        raise KernelError(
            "write sysctl", f"{name}={value}", error.errno or 0, "needs root"
        ) from None
