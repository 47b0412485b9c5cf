# SPDX-License-Identifier: Apache-2.0
"""Writes directories and layers as container images: docker-archives, the same for the same content.

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
    """How an image is called, and how its containers start."""

    name: str  # with a registry and a tag
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = ""
    env: tuple[str, ...] = field(default=(_PATH,))
    also: tuple[str, ...] = ()  # more names of the same image


def write_archive(root: Path, config: ImageConfig, path: Path) -> None:
    """Write the files below `root` as an image to `path`, whole by rename."""
    layer = path.with_name(f".{path.name}.layer")
    write_layer(root, layer)
    write_layers([layer], config, path)
    layer.unlink()


def write_layer(root: Path, layer: Path) -> None:
    """Write the files below `root` as a layer: a tar file."""
    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(root, ".", filter=_plain)


def write_layers(layers: Sequence[Path], config: ImageConfig, path: Path) -> None:
    """Write tar files, the lowest first, as an image to `path`, whole by rename."""
    making = path.with_name(f".{path.name}.making")
    digests = [_digest(layer) for layer in layers]
    description = json.dumps(_describe(config, digests)).encode()
    description_name = f"{hashlib.sha256(description).hexdigest()}.json"
    places = [f"{digest}.tar" for digest in digests]
    entry = {"Config": description_name, "RepoTags": [config.name, *config.also], "Layers": places}
    with tarfile.open(making, "w") as tar:
        _add(tar, description_name, description)
        for layer, place in zip(layers, places, strict=True):
            tar.add(layer, place, filter=_plain)
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
    """Without what differs from one making to the next."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mtime = 0
    return member


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
