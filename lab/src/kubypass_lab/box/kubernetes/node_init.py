# SPDX-License-Identifier: Apache-2.0
"""The first process of a node, in the node's network, mount, UTS, pid and cgroup namespaces.

It mounts the node's file systems, starts containerd, imports the images, starts the kubelet, and reaps processes that
end. Its mounts are invisible outside the node. Run it as `python -m kubypass_lab.box.kubernetes.node_init
SETUP.json`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kubypass.errors import KubypassError
from kubypass_lab.box.kubernetes.node_files import CACHE, CONTAINERD, IMPORTED
from kubypass_lab.box.patience import DEADLINE_S
from kubypass_lab.box.process import run, wait_until

_START_S = 3 * DEADLINE_S
# The kubelet requires these values. They belong to the machine, so the node sees files with the values instead.
_SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


@dataclass(frozen=True, slots=True)
class _Setup:
    """What the box passes to the node."""

    name: str
    disk: str  # the node's files: etc, opt (upper layers), lib, log
    cache: str
    packages: str  # directory below the cache
    programs: str  # directory below the cache
    images: Sequence[str]  # archives, as the node sees them
    later: Sequence[str]  # archives for which the kubelet does not wait
    kubelet: Sequence[str]  # arguments of the kubelet


def main() -> None:
    """Become the node that the file on the command line describes."""
    setup = _Setup(**json.loads(Path(sys.argv[1]).read_text()))
    socket.sethostname(setup.name)
    _mount_kernel()
    _mount_disk(Path(setup.disk), setup.cache)
    run(["mount", "--make-rshared", "/"])
    packages = f"{CACHE}/{setup.packages}"
    folders = [f"{packages}/usr/sbin", f"{packages}/usr/bin", f"{CACHE}/{setup.programs}"]
    os.environ["PATH"] = ":".join([*folders, os.environ["PATH"]])
    libraries = [str(path) for path in Path(packages).glob("usr/lib/*-linux-gnu")]
    _start("containerd", [], {"LD_LIBRARY_PATH": ":".join(libraries)})
    if not wait_until(_runtime_answers, _START_S):
        raise KubypassError("containerd does not answer", "see /var/log/containerd.log")
    for image in setup.images:
        _ctr("images", "import", image)
    _start("kubelet", setup.kubelet, {})
    for image in setup.later:
        _ctr("images", "import", image)
    Path("/var", IMPORTED).touch()
    while True:
        os.wait()


def _mount_kernel() -> None:
    """Mount /sys of this network namespace, a cgroup tree whose root is the node's, and a BPF file system."""
    run(["umount", "-R", "/sys"])
    run(["mount", "-t", "sysfs", "sysfs", "/sys"])
    run(["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"])
    run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"])
    for name in ("init", "pods"):
        Path("/sys/fs/cgroup", name).mkdir(exist_ok=True)
    Path("/sys/fs/cgroup/init/cgroup.procs").write_text("0")


def _mount_disk(disk: Path, cache: str) -> None:
    """Mount the node's layers over /etc and /opt, and its /var/lib, /var/log and /run."""
    shown = disk / "sysctl"
    shown.mkdir(exist_ok=True)
    for name, value in _SYSCTLS.items():
        file = shown / name.replace("/", ".")
        file.write_text(f"{value}\n")
        run(["mount", "--bind", str(file), f"/proc/sys/{name}"])
    for name in ("etc", "opt"):
        work = disk / f"{name}-work"
        work.mkdir(exist_ok=True)
        layers = f"lowerdir=/{name},upperdir={disk / name},workdir={work}"
        run(["mount", "-t", "overlay", "overlay", "-o", layers, f"/{name}"])
    run(["mount", "--rbind", cache, CACHE])
    run(["mount", "--bind", str(disk / "log"), "/var/log"])
    run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"])
    Path("/run/lock").mkdir()
    run(["mount", "--bind", str(disk / "lib"), "/var/lib"])


def _start(name: str, arguments: Sequence[str], environment: dict[str, str]) -> None:
    with Path(f"/var/log/{name}.log").open("a") as log:
        config = ["-c", "/etc/containerd/config.toml"] if name == "containerd" else []
        subprocess.Popen(
            [name, *config, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )


def _runtime_answers() -> bool:
    try:
        _ctr("version")
    except KubypassError:
        return False
    return True


def _ctr(*words: str) -> None:
    run(["ctr", "-a", CONTAINERD, "-n", "k8s.io", *words])


if __name__ == "__main__":
    main()
