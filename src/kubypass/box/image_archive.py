# SPDX-License-Identifier: Apache-2.0
"""Writes container images without a registry: a docker-archive, as of `docker save`.

`ctr images import` and `podman load` read it. After the image specification v1.2 of moby: manifest.json, a
configuration, layers. The same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Sequence
from pathlib import Path

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def write_layer(root: Path, layer: Path) -> None:
    """A layer from what is below a directory, in order of names, owned by root, without times."""
    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            archive.add(path, str(path.relative_to(root)), recursive=False, filter=_plain)


def write_archive(
    out: Path,
    names: Sequence[str],
    layers: Sequence[Path],
    *,
    entrypoint: Sequence[str] = (),
    command: Sequence[str] = (),
    environment: Sequence[str] = (),
    user: str = "",
) -> None:
    """An image under these names (with tags) of layers (tar files, the lowest first). Replaces `out` in one step."""
    digests = [f"sha256:{_digest(layer)}" for layer in layers]
    config = {
        "architecture": _MACHINES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": digests},
        "config": {
            "Env": [_PATH, *environment],
            "Entrypoint": list(entrypoint),
            "Cmd": list(command),
            "User": user,
            "WorkingDir": "/",
        },
        "history": [],
    }
    content = json.dumps(config).encode()
    config_name = f"{hashlib.sha256(content).hexdigest()}.json"
    places = [f"{digest.removeprefix('sha256:')}/layer.tar" for digest in digests]
    manifest = [{"Config": config_name, "RepoTags": list(names), "Layers": places}]
    unfinished = out.with_name(f".{out.name}")
    with tarfile.open(unfinished, "w") as archive:
        _add(archive, config_name, content)
        for layer, place in zip(layers, places, strict=True):
            archive.add(layer, place, filter=_plain)
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    unfinished.replace(out)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = "root"
    return entry


def _digest(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
