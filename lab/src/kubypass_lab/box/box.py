# SPDX-License-Identifier: Apache-2.0
"""A box as a whole: `up` makes it, `open_box` finds it by its files, and `down` removes even a half-made one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kubypass.errors import ConfigError, KubypassError
from kubypass.kernel.mounts import mount_bpffs, unmount
from kubypass_lab.box import agents, wiring
from kubypass_lab.box.files import Json, locked, mapping, read_json, write_json
from kubypass_lab.box.kubekey import read_kubekey
from kubypass_lab.box.kubernetes.paths import cluster_names
from kubypass_lab.box.paths import RUN, BoxPaths
from kubypass_lab.box.process import kill_cgroup
from kubypass_lab.box.topology import (
    CLIENT_ADDRESSES,
    PlannedNode,
    Topology,
    describe_topology,
    parse_topology,
    plan_topology,
)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Box:
    """A box that is up."""

    paths: BoxPaths
    topology: Topology
    settings: Path  # the agents' settings file

    @property
    def nodes(self) -> tuple[PlannedNode, ...]:
        """The nodes of the box, node1 first."""
        return self.topology.nodes


def open_box(name: str) -> Box:
    """Find a box by its files. KubypassError: there is no box of this name, or only half of one."""
    paths = BoxPaths(name)
    if name in cluster_names():
        hint = f"use kubectl: kubypass box exec --name {name} client -- kubectl …"
        raise ConfigError(f"{name} is a Kubernetes cluster", hint)
    description = read_json(paths.description)
    if description is None or not description.get("ready"):
        state = "is only half made" if paths.root.is_dir() else "does not exist"
        raise KubypassError(f"box {name} {state}", "make it: kubypass box up")
    return _parse_box(paths, description)


def up(name: str, kubekey: Path, settings: Path, say: Say, *, with_agents: bool = True) -> Box:
    """Make a box, or describe the one that is there. The remains of an interrupted `up` are removed first."""
    paths = BoxPaths(name)
    topology = plan_topology(read_kubekey(kubekey))
    if not settings.exists():
        raise ConfigError(
            f"{settings}: no such file", "give the agents' settings with --settings FILE"
        )
    description = read_json(paths.description)
    if description is not None and description.get("ready"):
        box = _parse_box(paths, description)
        say(f"box {name} is up already")
        if with_agents:
            _restart_agents(box, say)
        return box
    if paths.root.is_dir() or paths.namespaces():
        say(f"box {name} was interrupted half made: removing it")
        down(name, lambda _: None)
    paths.root.mkdir(parents=True)
    try:
        with locked(paths.root):
            return _make(paths, topology, settings.resolve(), say, with_agents=with_agents)
    except BaseException:
        down(name, lambda _: None)
        raise


def down(name: str, say: Say) -> bool:
    """Stop all processes of a box and remove it. Returns False if there was no box."""
    paths = BoxPaths(name)
    cgroup = paths.cgroup
    found = paths.root.is_dir() or cgroup.is_dir() or bool(paths.namespaces())
    agents.stop_agents(paths)
    kill_cgroup(cgroup)
    if cgroup.parent.is_dir() and not any(each.is_dir() for each in cgroup.parent.iterdir()):
        cgroup.parent.rmdir()
    for namespace in paths.namespaces():
        wiring.delete_namespace(namespace)
    _unmount(paths.bpffs)
    if paths.root.is_dir():
        shutil.rmtree(paths.root)
    for directory in (RUN, RUN.parent):
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()
    say(f"box {name} is gone" if found else f"there is no box {name}")
    return found


def _unmount(path: Path) -> None:
    """Unmount everything that is mounted on `path`."""
    while path.is_mount():
        unmount(path)


def _make(
    paths: BoxPaths, topology: Topology, settings: Path, say: Say, *, with_agents: bool
) -> Box:
    box = Box(paths, topology, settings)
    description = _describe_box(box)
    write_json(paths.description, {**description, "ready": False})
    for directory in (paths.manifests, paths.objects, paths.pods, paths.bpffs):
        directory.mkdir(exist_ok=True)
    mount_bpffs(paths.bpffs)
    wiring.make_fabric(paths, topology)
    paths.host_cgroup("client").mkdir(parents=True, exist_ok=True)
    say(f"client: {', '.join(text.split('/')[0] for text in CLIENT_ADDRESSES)}")
    for node in topology.nodes:
        wiring.make_node(paths, topology, node)
        paths.host_cgroup(node.name).mkdir(parents=True, exist_ok=True)
        (paths.agent_run(node.name) / "pods").mkdir(parents=True, exist_ok=True)
        paths.node_bpffs(node.name).mkdir(exist_ok=True)
        write_json(node_manifest(paths, node), _describe_node(node))
        addresses = ", ".join(str(each.ip) for each in node.addresses)
        say(f"{node.alias}: {node.name}, {addresses}, pods {', '.join(map(str, node.pod_cidrs))}")
    if with_agents:
        agents.start_agents(paths, topology, settings)
        say(f"agents: running, settings from {settings}")
    write_json(paths.description, {**description, "ready": True})
    return box


def _restart_agents(box: Box, say: Say) -> None:
    missing = [node for node in box.nodes if not agents.is_running(box.paths, node.name)]
    if missing:
        agents.start_agents(box.paths, box.topology, box.settings)
    for node in box.nodes:
        state = "agent started again" if node in missing else "agent is running"
        say(f"{node.alias}: {node.name}, {state}")


def _describe_box(box: Box) -> Json:
    return {
        "name": box.paths.name,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "settings": str(box.settings),
        "topology": describe_topology(box.topology),
    }


def _parse_box(paths: BoxPaths, description: Json) -> Box:
    topology = parse_topology(mapping(description["topology"]))
    return Box(paths, topology, Path(str(description["settings"])))


def node_manifest(paths: BoxPaths, node: PlannedNode) -> Path:
    """The file of a node's Node object."""
    return paths.manifests / f"node_{node.name}.json"


def _describe_node(node: PlannedNode) -> Json:
    addresses = [{"type": "InternalIP", "address": str(each.ip)} for each in node.addresses]
    cidrs = [str(cidr) for cidr in node.pod_cidrs]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": dict(node.labels)},
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
        "status": {
            "addresses": [
                *addresses,
                {"type": "Hostname", "address": node.name},
                {"type": "InternalDNS", "address": node.alias},
            ]
        },
    }
