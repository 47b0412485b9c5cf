# SPDX-License-Identifier: Apache-2.0
"""A node: a process tree with a real kubelet and containerd, in a set of namespaces and a cgroup."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path

from kubypass.errors import KubypassError
from kubypass_lab.box.enter import Target
from kubypass_lab.box.files import Json, read_json, write_json
from kubypass_lab.box.kubekey import IPNetwork
from kubypass_lab.box.kubernetes import pki
from kubypass_lab.box.kubernetes.addons import dns_address
from kubypass_lab.box.kubernetes.control_plane import server_url
from kubypass_lab.box.kubernetes.images import IMAGES_OF_TESTS
from kubypass_lab.box.kubernetes.kubectl import try_kubectl, wait_kubectl
from kubypass_lab.box.kubernetes.node_files import (
    CACHE,
    IMPORTED,
    NOT_READY_TAINT,
    NodeSetup,
    kubelet_arguments,
    node_files,
)
from kubypass_lab.box.kubernetes.packages import packages_directory
from kubypass_lab.box.kubernetes.paths import ClusterPaths
from kubypass_lab.box.kubernetes.programs import cache
from kubypass_lab.box.patience import DEADLINE_S
from kubypass_lab.box.process import last_line, parse_process, spawn, wait_until
from kubypass_lab.box.topology import PlannedNode, Topology
from kubypass_lab.checkout import import_path

REGISTER_S = 4 * DEADLINE_S
READY_S = 4 * DEADLINE_S
_OPEN_FILES = 1_000_000
_LOOPBACK = "loopback"  # containerd calls this plugin for every pod, whatever the network
_UNSHARE = ("unshare", "-m", "-u", "-C", "-p", "-f", "--kill-child", "--mount-proc")
# The machine's files in these directories must not be visible through the node's layer.
_OWN = {"etc": ("cni", "containerd", "kubernetes"), "opt": ("cni", "box")}


def start_node(paths: ClusterPaths, topology: Topology, node: PlannedNode) -> None:
    """Start a node, for the first time or again; its kubelet then registers it."""
    disk = paths.node_disk(node.name)
    paths.node_cgroup(node.name).mkdir(parents=True, exist_ok=True)
    names = sorted(each.name for each in (disk / "lib/images").glob("*.tar"))
    first = [name for name in names if name.removesuffix(".tar") not in IMAGES_OF_TESTS]
    (disk / IMPORTED).unlink(missing_ok=True)
    setup: Json = {
        "name": node.name,
        "disk": str(disk),
        "cache": str(cache()),
        "packages": packages_directory().name,
        "programs": str(paths.programs.relative_to(cache())),
        "images": [f"/var/lib/images/{name}" for name in first],
        "later": [f"/var/lib/images/{name}" for name in names if name not in first],
        "kubelet": kubelet_arguments(node, topology.families),
    }
    write_json(disk / "setup.json", setup)
    command = [
        sys.executable,
        "-m",
        "kubypass_lab.box.kubernetes.node_init",
        str(disk / "setup.json"),
    ]
    process = spawn(
        [*_UNSHARE, *command],
        cgroup=paths.node_cgroup(node.name),
        namespace=paths.namespace(node.name),
        log=disk / "init.log",
        env={"PYTHONPATH": import_path(), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    write_json(paths.process_record(node.name), process.describe())


def node_target(paths: ClusterPaths, name: str) -> Target:
    """The target of commands on a node: the cgroup of its daemons, and all its namespaces."""
    folders = [f"{CACHE}/{part}" for part in _programs(paths)]
    environment = {
        "KUBECONFIG": "/etc/kubernetes/admin.conf",
        "KUBECACHEDIR": "/run/kubectl",
        "PATH": ":".join([os.environ["PATH"], *folders]),
    }
    namespace, cgroup = paths.namespace(name), paths.host_cgroup(name)
    return Target(name, namespace, cgroup, environment, _first_process(paths, name))


def wait_registered(paths: ClusterPaths, node: PlannedNode) -> list[IPNetwork]:
    """Wait until the node is registered. Returns its pod CIDRs."""
    template = "{range .spec.podCIDRs[*]}{@}{'\\n'}{end}"
    found: list[IPNetwork] = []

    def registered() -> bool:
        said = try_kubectl(paths, "get", "node", node.name, "-o", f"jsonpath={template}")
        found[:] = [ip_network(word) for word in said.stdout.split()]
        return bool(found)

    if not wait_until(registered, REGISTER_S):
        raise KubypassError(*_explain(paths, node, "did not register"))
    return found


def wait_ready(paths: ClusterPaths, node: PlannedNode) -> None:
    """Wait until the node is Ready. KubypassError: it is not, with the end of its log."""
    try:
        wait = ["wait", "--for=condition=Ready", f"node/{node.name}", "--timeout=5s"]
        wait_kubectl(paths, READY_S, *wait)
    except KubypassError as error:
        raise KubypassError(*_explain(paths, node, "is not ready")) from error


def wait_images(paths: ClusterPaths, node: PlannedNode) -> None:
    """Wait until the node has all images."""
    disk = paths.node_disk(node.name)
    if not wait_until((disk / IMPORTED).is_file, READY_S):
        raise KubypassError(f"{node.name} does not have its images: {last_line(disk / 'init.log')}")


def prepare_disk(
    paths: ClusterPaths,
    topology: Topology,
    node: PlannedNode,
    images: Sequence[Path],
    *,
    bare: bool,
) -> None:
    """Make the node's files: the upper layers of /etc and /opt, /var/lib and /var/log.

    A bare node has no pod network, and keeps a taint until an agent brings one.
    """
    disk = paths.node_disk(node.name)
    for name in ("etc", "opt", "lib", "log"):
        (disk / name).mkdir(parents=True)
    for layer, names in _OWN.items():
        for name in names:
            own = disk / layer / name
            own.mkdir()
            os.setxattr(own, "trusted.overlay.opaque", b"y")
    (disk / "etc/cni/net.d").mkdir()
    (disk / "opt/cni/bin").mkdir()
    for plugin in (packages_directory() / "usr/lib/cni").iterdir():
        if not bare or plugin.name == _LOOPBACK:
            shutil.copy(plugin, disk / "opt/cni/bin")
    (disk / "lib/images").mkdir()
    for archive in images:
        _link(archive, disk / "lib/images" / archive.name)
    _write_identity(paths, topology, node, disk / "etc/kubernetes")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    runc = f"{CACHE}/{packages_directory().name}/usr/sbin/runc"
    taints = [NOT_READY_TAINT] if bare else []
    setup = NodeSetup(runc, min(hard, _OPEN_FILES), str(dns_address(topology)), taints)

    for name, text in node_files(topology, node, setup).items():
        path = disk / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _link(source: Path, target: Path) -> None:
    """Make a hard link to a file that never changes, or a copy where a link is impossible."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy(source, target)


def _write_identity(
    paths: ClusterPaths, topology: Topology, node: PlannedNode, directory: Path
) -> None:
    """Write the kubelet's certificate and kubeconfig, and the administrator's kubeconfig as kubeadm does."""
    identity = pki.kubelet(node.name, [each.ip for each in node.addresses])
    pki.make_certificate(paths.pki, identity)
    kubeconfig = pki.write_kubeconfig(paths.pki, identity, server_url(topology))
    (directory / "pki").mkdir()
    shutil.copy(paths.pki / "ca.crt", directory / "pki/ca.crt")
    for suffix in ("crt", "key"):
        shutil.copy(paths.pki / f"{identity.file}.{suffix}", directory / f"pki/kubelet.{suffix}")
    shutil.copy(kubeconfig, directory / "kubelet.conf")
    shutil.copy(paths.kubeconfig, directory / "admin.conf")


def _programs(paths: ClusterPaths) -> tuple[str, ...]:
    """Directories below the cache that are on a node's PATH."""
    packages = packages_directory().name
    own = str(paths.programs.relative_to(cache()))
    return own, f"{packages}/usr/sbin", f"{packages}/usr/bin"


def _first_process(paths: ClusterPaths, name: str) -> int:
    """The pid (outside the node) of the node's first process: the only child of the process that was started."""
    process = parse_process(read_json(paths.process_record(name)))
    try:
        pid = process.pid if process else 0
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0])
    except (OSError, IndexError):
        hint = f"see {paths.node_disk(name) / 'init.log'}"
        raise KubypassError(f"node {name} does not run", hint) from None


def _explain(paths: ClusterPaths, node: PlannedNode, what: str) -> tuple[str, str]:
    """What went wrong with a node, according to its logs, and what to do."""
    disk = paths.node_disk(node.name)
    log = disk / "log/kubelet.log"
    shown = log if log.is_file() else disk / "init.log"
    said = last_line(shown)
    full = "inotify_init" in said
    hint = "end what else runs here, or raise fs.inotify.max_user_instances" if full else ""
    return f"{node.name} {what}: {said}", hint
