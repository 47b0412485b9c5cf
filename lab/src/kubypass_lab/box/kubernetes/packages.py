# SPDX-License-Identifier: Apache-2.0
"""Node software from Debian packages, which are unpacked into the cache and not installed, so no service starts."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from kubypass_lab.box.kubernetes.programs import Say, alone, cache
from kubypass_lab.box.process import run

PACKAGES = (
    "containerd",
    "runc",
    "containernetworking-plugins",
    "bind9-dnsutils",
    "bind9-host",
    "conntrack",
    "netcat-openbsd",
    "wget",
)


def packages_directory() -> Path:
    """The directory of this list of `PACKAGES`; another list has another directory."""
    digest = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:8]
    return cache() / f"packages-{digest}"


def unpack_packages(say: Say) -> Path:
    """Unpack `PACKAGES` and their dependencies that this machine lacks. Returns the directory."""
    root = packages_directory()
    if root.is_dir():
        return root
    cache().mkdir(parents=True, exist_ok=True)
    with alone(cache(), say):
        if root.is_dir():
            return root
        say(f"unpacking Debian packages: {', '.join(PACKAGES)}")
        making = cache() / ".packages.making"
        shutil.rmtree(making, ignore_errors=True)
        archives = making / "archives"
        (archives / "partial").mkdir(parents=True)
        apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
        run([*apt, "update"])
        options = ["--download-only", "--reinstall", "--no-install-recommends", "--yes"]
        run([*apt, "-o", f"Dir::Cache::archives={archives}", "install", *options, *PACKAGES])
        for archive in sorted(archives.glob("*.deb")):
            run(["dpkg", "-x", str(archive), str(making / "root")])
        (making / "root").rename(root)
        shutil.rmtree(making)
    return root
