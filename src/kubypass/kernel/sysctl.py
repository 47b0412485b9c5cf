# SPDX-License-Identifier: Apache-2.0
"""Reads and writes sysctls by their dotted names. Where a device's name has dots, slashes separate (sysctl(8))."""

from __future__ import annotations

from pathlib import Path

from kubypass.errors import KernelError


def _path(name: str) -> Path:
    return Path("/proc/sys") / (name if "/" in name else name.replace(".", "/"))


def read(name: str) -> str | None:
    """The value of a sysctl; None where this kernel does not have it."""
    try:
        return _path(name).read_text().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KernelError("read sysctl", name, error.errno or 0) from None


def write(name: str, value: str) -> None:
    """Sets a sysctl."""
    try:
        _path(name).write_text(f"{value}\n")  # an empty value needs a write, too
    except OSError as error:
        raise KernelError(
            "write sysctl", f"{name}={value}", error.errno or 0, "needs root"
        ) from None
