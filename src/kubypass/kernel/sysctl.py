# SPDX-License-Identifier: Apache-2.0
"""Reads and writes sysctls by their dotted names. Where a device's name has dots, slashes separate (sysctl(8))."""

from __future__ import annotations

import os
from pathlib import Path

from kubypass.errors import KernelError

_ROOT = Path(os.environ.get("KUBYPASS_PROC_SYS", "/proc/sys"))
"""A container that is not privileged may not write to its own /proc/sys; it has the node's `net` elsewhere."""


def path_of(name: str) -> Path:
    """The file of a sysctl of the network namespace that this thread is in."""
    return _ROOT / (name if "/" in name else name.replace(".", "/"))


def read(name: str) -> str | None:
    """The value of a sysctl; None where this kernel does not have it."""
    try:
        return path_of(name).read_text().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KernelError("read sysctl", name, error.errno or 0) from None


def write(name: str, value: str) -> None:
    """Sets a sysctl."""
    try:
        path_of(name).write_text(f"{value}\n")  # an empty value needs a write, too
    except OSError as error:
        raise KernelError(
            "write sysctl", f"{name}={value}", error.errno or 0, "needs root"
        ) from None
