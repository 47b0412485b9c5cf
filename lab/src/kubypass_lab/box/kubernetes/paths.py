# SPDX-License-Identifier: Apache-2.0
"""Where a cluster keeps everything it owns: names of directories, namespaces and cgroups.

Names contain a hash of the checkout, so that clusters of two checkouts never collide. Disks of nodes are on a real
file system, because containerd's layers cannot be on a tmpfs or an overlay.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from kubypass.kernel.cgroup import mount_point
from kubypass_lab.box.kubernetes.programs import VERSION, programs_directory
from kubypass_lab.box.paths import FABRIC, NETNS, check_name
from kubypass_lab.checkout import CHECKOUT

CLUSTERS = Path("/var/lib/kubypass-box")
CGROUP_NAME = "kubypass-kubernetes"


def _checkout() -> str:
    """Six digits that distinguish this checkout from others."""
    return hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:6]


@dataclass(frozen=True, slots=True)
class ClusterPaths:
    """The directories, cgroups and namespaces of this checkout's cluster called `name`."""

    name: str

    def __post_init__(self) -> None:
        check_name(self.name)

    @property
    def key(self) -> str:
        """A name of the cluster that is unique on this machine."""
        return f"{_checkout()}-{self.name}"

    @property
    def root(self) -> Path:
        """The directory of all files of the cluster."""
        return CLUSTERS / self.key

    @property
    def description(self) -> Path:
        """The file that describes the cluster: its topology and its nodes' proxy."""
        return self.root / "cluster.json"

    @property
    def version(self) -> str:
        """The version of Kubernetes; the usual one before anything is written."""
        path = self.root / "version"
        return path.read_text() if path.is_file() else VERSION

    def write_version(self, version: str) -> None:
        """Say which version it is; the first thing that is written."""
        (self.root / "version").write_text(version)

    @property
    def programs(self) -> Path:
        """The directory of Kubernetes' programs of this cluster's version."""
        return programs_directory(self.version)

    @property
    def pki(self) -> Path:
        """The directory of certificates, keys and kubeconfigs."""
        return self.root / "pki"

    @property
    def logs(self) -> Path:
        """The directory of the control plane's logs."""
        return self.root / "log"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.pki / "admin.conf"

    def process_record(self, name: str) -> Path:
        """The record of a process that was started: a node, or a program of the control plane."""
        return self.root / "processes" / f"{name}.json"

    @property
    def cgroup(self) -> Path:
        """The cgroup that holds every process of the cluster."""
        return mount_point() / CGROUP_NAME / self.key

    def node_disk(self, node: str) -> Path:
        """The directory of a node's files."""
        return self.root / "nodes" / node

    def node_cgroup(self, node: str) -> Path:
        """The root of the node's cgroup namespace."""
        return self.cgroup / node

    def host_cgroup(self, host: str) -> Path:
        """The cgroup of a host's processes: below the node's root, beside its pods."""
        return self.node_cgroup(host) / "init"

    def namespace(self, host: str) -> str:
        """The network namespace of a node, of the fabric or of the client."""
        return f"kubernetes-{self.key}-{host}"

    @property
    def fabric(self) -> Path:
        """The file of the network namespace in which the control plane runs."""
        return NETNS / self.namespace(FABRIC)

    def namespaces(self) -> list[str]:
        """The network namespaces of this cluster that exist now."""
        return sorted(path.name for path in NETNS.glob(f"kubernetes-{self.key}-*"))

    def exists(self) -> bool:
        """Whether any part of the cluster exists."""
        return self.root.is_dir() or self.cgroup.is_dir() or bool(self.namespaces())


def cluster_names() -> list[str]:
    """The names of this checkout's clusters."""
    prefix = f"{_checkout()}-"
    return sorted(path.name.removeprefix(prefix) for path in CLUSTERS.glob(f"{prefix}*"))
