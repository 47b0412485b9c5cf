# SPDX-License-Identifier: Apache-2.0
"""Installs our network configuration and plugin for the node's container runtime, which reads the first file by name.

Configurations of other networks are set aside. `put_back` restores them, and `remove` deletes our files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from kubypass.cni.protocol import VERSIONS
from kubypass.kernel.files import write_file

PLUGIN = "kubypass-cni"
CONFLIST = "05-kubypass.conflist"
SET_ASIDE = ".kubypass_bak"
_SUFFIXES = {".conf", ".conflist", ".json"}
_NETWORK = "kubypass"
_FIRST_WITH_LISTS = "1.0.0"


def conflist(run: Path) -> bytes:
    """The network configuration list. Runtimes before CNI 1.1.0 refuse that version; newer ones use cniVersions."""
    fields = {
        "cniVersion": _FIRST_WITH_LISTS,
        "cniVersions": list(VERSIONS),
        "name": _NETWORK,
        "plugins": [{"type": PLUGIN, "socket": str(run / "cni.sock")}],
    }
    return json.dumps(fields, indent=2).encode() + b"\n"


def plugin_program() -> Path | None:
    """Finds the compiled plugin in the package or in a checkout's build directory; None where it was not built."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "cni/plugin", package.parents[1] / "build/cni"):
        if (candidate / PLUGIN).is_file():
            return candidate / PLUGIN
    return None


def install_program(program: Path, directory: Path) -> bool:
    """Puts the plugin into the runtime's directory in one step; False where it is there already."""
    target = directory / PLUGIN
    content = program.read_bytes()
    if target.is_file() and target.read_bytes() == content and os.access(target, os.X_OK):
        return False
    directory.mkdir(parents=True, exist_ok=True)
    write_file(target, content, mode=0o755, durable=True)
    return True


def install_conflist(run: Path, directory: Path) -> bool:
    """Writes our configuration; False where it is there already."""
    target, content = directory / CONFLIST, conflist(run)
    if target.is_file() and target.read_bytes() == content:
        return False
    directory.mkdir(parents=True, exist_ok=True)
    write_file(target, content, durable=True)
    return True


def others(directory: Path) -> list[str]:
    """The configurations of other networks, in the order in which a runtime reads them."""
    if not directory.is_dir():
        return []
    names = (path.name for path in directory.iterdir() if path.suffix in _SUFFIXES)
    return sorted(name for name in names if name != CONFLIST and not name.startswith("."))


def set_aside(directory: Path) -> list[str]:
    """Renames the other configurations so that no runtime reads them; returns their original names."""
    names = others(directory)
    for name in names:
        (directory / name).replace(directory / f"{name}{SET_ASIDE}")
    return names


def put_back(directory: Path) -> list[str]:
    """Undoes `set_aside`; returns the original names."""
    if not directory.is_dir():
        return []
    found = sorted(directory.glob(f"*{SET_ASIDE}"))
    for path in found:
        path.replace(path.with_name(path.name.removesuffix(SET_ASIDE)))
    return [path.name.removesuffix(SET_ASIDE) for path in found]


def remove(paths: Iterable[Path]) -> list[Path]:
    """Removes these files of ours; returns those that existed."""
    found = [path for path in paths if path.is_file()]
    for path in found:
        path.unlink()
    return found
