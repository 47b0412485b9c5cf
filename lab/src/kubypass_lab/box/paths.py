# SPDX-License-Identifier: Apache-2.0
"""Where a box keeps everything it owns: names of directories, namespaces, cgroups and pins."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kubypass.errors import ConfigError
from kubypass.kernel.bpffs_names import bpffs_name
from kubypass.kernel.cgroup import mount_point

RUN = Path("/run/kubypass/box")
NETNS = Path("/run/netns")
CGROUP_NAME = "kubypass-box"
FABRIC = "fabric"
CLIENT = "client"

_NAME = re.compile(r"[a-z][a-z0-9]{0,15}")


def check_name(name: str) -> None:
    """ConfigError if a box cannot be called `name`."""
    if not _NAME.fullmatch(name):
        hint = "expected a letter in lower case, then at most 15 letters and digits"
        raise ConfigError(f"--name {name!r}", hint)


@dataclass(frozen=True, slots=True)
class BoxPaths:
    """The directories, cgroups and namespaces of the box called `name`."""

    name: str

    def __post_init__(self) -> None:
        check_name(self.name)

    @property
    def root(self) -> Path:
        return RUN / self.name

    @property
    def description(self) -> Path:
        return self.root / "box.json"

    @property
    def manifests(self) -> Path:
        """The directory that the agents follow, with one object in each file."""
        return self.root / "manifests"

    @property
    def objects(self) -> Path:
        """The directory of applied objects, with one object in each file."""
        return self.root / "objects"

    @property
    def pods(self) -> Path:
        """The directory of pods, with one record for each pod. A pod's files are in the directory of the same name."""
        return self.root / "pods"

    @property
    def bpffs(self) -> Path:
        return self.root / "bpf"

    @property
    def cgroup(self) -> Path:
        return mount_point() / CGROUP_NAME / self.name

    def agent_run(self, node: str) -> Path:
        return self.root / "nodes" / node

    def node_bpffs(self, node: str) -> Path:
        return self.bpffs / bpffs_name(node)

    def node_cgroup(self, node: str) -> Path:
        return self.cgroup / node

    def host_cgroup(self, host: str) -> Path:
        return self.cgroup / host / "host"

    def pod_cgroup(self, node: str, pod: str) -> Path:
        return self.cgroup / node / "pods" / pod

    def namespace(self, host: str) -> str:
        return f"kubypass-{self.name}-{host}"

    def pod_namespace(self, pod: str) -> str:
        return f"kubypass-{self.name}-pod.{pod}"

    def namespaces(self) -> list[str]:
        """The network namespaces of this box that exist now."""
        if not NETNS.is_dir():
            return []
        return sorted(path.name for path in NETNS.glob(f"kubypass-{self.name}-*"))
