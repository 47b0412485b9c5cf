# SPDX-License-Identifier: Apache-2.0
"""Writes directories and layers as container images in the docker-archive format, reproducibly.

https://github.com/moby/docker-image-spec/blob/main/v1.2.md
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The name of an image, and how its containers start."""

    name: str  # with registry and tag
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = ""
    env: tuple[str, ...] = field(default=(_PATH,))
    also: tuple[str, ...] = ()  # other names of the same image


def write_archive(root: Path, config: ImageConfig, path: Path) -> None:
    """Write the files below `root` as an image to `path`, which appears whole, by a rename."""
    layer = path.with_name(f".{path.name}.layer")
    write_layer(root, layer)
    write_layers([layer], config, path)
    layer.unlink()


def write_layer(root: Path, layer: Path) -> None:
    """Write the files below `root` as a layer, which is a tar file."""
    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(root, ".", filter=_plain)


def write_layers(layers: Sequence[Path], config: ImageConfig, path: Path) -> None:
    """Write tar files, the lowest layer first, as an image to `path`, which appears whole, by a rename."""
    making = path.with_name(f".{path.name}.making")
    digests = [_digest(layer) for layer in layers]
    description = json.dumps(_describe(config, digests)).encode()
    description_name = f"{hashlib.sha256(description).hexdigest()}.json"
    names = [f"{digest}.tar" for digest in digests]
    entry = {"Config": description_name, "RepoTags": [config.name, *config.also], "Layers": names}
    with tarfile.open(making, "w") as tar:
        _add(tar, description_name, description)
        for layer, name in zip(layers, names, strict=True):
            tar.add(layer, name, filter=_plain)
        _add(tar, "manifest.json", json.dumps([entry]).encode())
    making.rename(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _describe(config: ImageConfig, digests: list[str]) -> dict[str, object]:
    return {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [],
        "config": {
            "Env": list(config.env),
            "Entrypoint": list(config.entrypoint),
            "Cmd": list(config.command),
            "User": config.user,
            "WorkingDir": "/",
        },
    }


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Remove what differs between two runs: owners and times."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mtime = 0
    return member


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
