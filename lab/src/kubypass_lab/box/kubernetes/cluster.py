# SPDX-License-Identifier: Apache-2.0
"""A cluster as a whole: `up` makes it, `open_cluster` finds it by its files, `down` removes even a half-made one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from kubypass.errors import ConfigError, KubypassError
from kubypass.kernel.cgroup import mount_point
from kubypass_lab.box import wiring
from kubypass_lab.box.files import Json, locked, mapping, read_json, write_json
from kubypass_lab.box.kubekey import Host, KubeKey, read_kubekey
from kubypass_lab.box.kubernetes import addons, control_plane, node, proxies
from kubypass_lab.box.kubernetes.images import build_images
from kubypass_lab.box.kubernetes.kubectl import kubectl, wait_kubectl
from kubypass_lab.box.kubernetes.kubypass import build_kubypass_image, read_settings
from kubypass_lab.box.kubernetes.packages import unpack_packages
from kubypass_lab.box.kubernetes.paths import CGROUP_NAME, CLUSTERS, ClusterPaths
from kubypass_lab.box.kubernetes.programs import (
    CLUSTER,
    CONTROL_PLANE,
    VERSION,
    build_programs,
    cache,
)
from kubypass_lab.box.kubernetes.proxies import Proxy
from kubypass_lab.box.paths import CLIENT
from kubypass_lab.box.patience import DEADLINE_S
from kubypass_lab.box.process import kill_cgroup, wait_until
from kubypass_lab.box.topology import (
    PlannedNode,
    Topology,
    describe_topology,
    parse_topology,
    plan_topology,
)

MOST_NODES = 3
KILL_S = DEADLINE_S

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a new cluster."""

    kubekey: Path  # the file with its hosts and CIDRs
    settings: Path  # the file with kubypass's settings
    nodes: int  # 0 makes a control plane alone
    proxy: Proxy
    kubypass: bool  # kubypass connects the pods, whatever serves Services
    version: str = VERSION  # of Kubernetes


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that is up."""

    paths: ClusterPaths
    topology: Topology
    proxy: Proxy
    kubypass: bool  # kubypass connects the pods
    version: str = VERSION  # of Kubernetes

    @property
    def nodes(self) -> tuple[PlannedNode, ...]:
        """The nodes of the cluster, node1 first; none if it is a control plane alone."""
        return self.topology.nodes


def plan_cluster(kubekey: KubeKey, nodes: int) -> Topology:
    """The network of the KubeKey file with its first `nodes` hosts; missing hosts are modelled on the last one."""
    if not 0 <= nodes <= MOST_NODES:
        raise ConfigError(f"--nodes {nodes}", f"expected 0 (no node) to {MOST_NODES}")
    hosts = list(kubekey.hosts[: max(nodes, 1)])
    while len(hosts) < nodes:
        addresses = tuple(address + 1 for address in hosts[-1].addresses)
        hosts.append(Host(f"node{len(hosts) + 1}", addresses))
    topology = plan_topology(replace(kubekey, hosts=tuple(hosts)))
    return replace(topology, nodes=topology.nodes[:nodes])


def up(name: str, plan: Plan, say: Say) -> Cluster:
    """Make a cluster and wait until its nodes are ready.

    A cluster that is already up is only described. The remains of an interrupted `up` are removed first.
    """
    paths = ClusterPaths(name)
    topology = plan_cluster(read_kubekey(plan.kubekey), plan.nodes)
    read_settings(plan.settings)
    wanted = Cluster(paths, topology, plan.proxy, plan.kubypass, plan.version)
    description = read_json(paths.description)
    if description is not None and description.get("ready"):
        return _same(_parse(paths, description), wanted, say)
    images = _build(plan, say)
    _clear(paths, say)
    cluster = wanted
    paths.root.mkdir(parents=True)
    paths.write_version(plan.version)
    try:
        with locked(paths.root):
            _make(cluster, plan.settings, images, say)
    except KubypassError as error:
        hint = f"{error.hint}; logs are kept in {_keep_logs(paths)}".removeprefix("; ")
        down(name, lambda _: None)
        raise KubypassError(error.message, hint) from error
    except BaseException:
        down(name, lambda _: None)
        raise
    return cluster


def _clear(paths: ClusterPaths, say: Say) -> None:
    """Remove what an interrupted `up` left. KubypassError: another `up` is still running."""
    if paths.root.is_dir():
        with locked(paths.root):
            say(f"cluster {paths.name} was interrupted half made: removing it")
    if paths.exists():
        down(paths.name, lambda _: None)


def _keep_logs(paths: ClusterPaths) -> Path:
    """Copy the logs of a failed cluster to a directory that outlives it."""
    kept = cache() / "logs" / paths.key
    shutil.rmtree(kept, ignore_errors=True)
    patterns = ("log/*.log", "nodes/*/*.log", "nodes/*/log/**/*.log")
    for log in (
        path for pattern in patterns for path in paths.root.glob(pattern) if path.is_file()
    ):
        target = kept / log.relative_to(paths.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(log, target)
    return kept


def _build(plan: Plan, say: Say) -> list[Path]:
    """Build missing programs and images. Returns the archives of the nodes' images."""
    build_programs(CLUSTER if plan.nodes else CONTROL_PLANE, say, plan.version)
    if not plan.nodes:
        return []
    made = sorted(build_images(unpack_packages(say), plan.version, say).glob("*.tar"))
    archives = [
        each for each in made if each.stem != "kube-proxy" or plan.proxy.startswith(each.stem)
    ]
    archives.append(
        build_kubypass_image(say)
    )  # `connectivity test` uses this image with kube-proxy too
    return archives


def open_cluster(name: str) -> Cluster:
    """Find a cluster by its files. KubypassError: there is none, or only half of one."""
    paths = ClusterPaths(name)
    description = read_json(paths.description)
    if description is None or not description.get("ready"):
        state = "is only half made" if paths.exists() else "does not exist"
        hint = "make it: kubypass box up --kubernetes"
        raise KubypassError(f"cluster {name} {state}", hint)
    return _parse(paths, description)


def down(name: str, say: Say) -> bool:
    """Stop all processes of a cluster and remove it. Returns False if there was no cluster."""
    paths = ClusterPaths(name)
    found = paths.exists()

    def removed() -> bool:
        """Removes what there is, with what a child of a killed maker has begun meanwhile."""
        kill_cgroup(paths.cgroup, KILL_S)
        for namespace in paths.namespaces():
            wiring.delete_namespace(namespace)
        if paths.root.is_dir():
            shutil.rmtree(paths.root)
        return not paths.exists()

    if not wait_until(removed):
        raise KubypassError(
            f"parts of cluster {name} come back: {paths.root}, {paths.cgroup}",
            "end what makes them, and take it down again",
        )
    for directory in (CLUSTERS, mount_point() / CGROUP_NAME):
        with suppress(OSError):  # it has other children, or it is gone
            directory.rmdir()
    say(f"cluster {name} is gone" if found else f"there is no cluster {name}")
    return found


def _same(cluster: Cluster, wanted: Cluster, say: Say) -> Cluster:
    """The cluster that is already up. ConfigError: it differs from the one that was asked for."""
    if cluster != wanted:
        name = cluster.paths.name
        message = (
            f"cluster {name} is up, with Kubernetes {cluster.version}, {len(cluster.nodes)} nodes and "
            f"proxy {cluster.proxy}"
        )
        raise ConfigError(message, f"take it down first: kubypass box down --name {name}")
    say(f"cluster {cluster.paths.name} is up already")
    return cluster


def _make(cluster: Cluster, settings: Path, images: list[Path], say: Say) -> None:
    paths, topology = cluster.paths, cluster.topology
    begun = time.monotonic()
    write_json(paths.description, _describe(cluster, ready=False))
    wiring.make_fabric(paths, topology)
    control_plane.make_identities(paths, topology)
    control_plane.start_api(paths, topology)
    paths.host_cgroup(CLIENT).mkdir(parents=True)
    for planned in cluster.nodes:
        wiring.plug_node(paths, topology, planned)
        node.prepare_disk(paths, topology, planned, images, bare=cluster.kubypass)
        node.start_node(paths, topology, planned)
    control_plane.wait_api(paths, topology)
    control_plane.start_controllers(paths, topology, scheduler=bool(cluster.nodes))
    wait_kubectl(paths, 5 * DEADLINE_S, "-n", "default", "get", "serviceaccount", "default")
    say(f"control plane: {control_plane.server_url(topology)}, {_since(begun)}")
    if cluster.nodes:
        _finish_nodes(cluster, settings, begun, say)
    write_json(paths.description, _describe(cluster, ready=True))


def _finish_nodes(cluster: Cluster, settings: Path, begun: float, say: Say) -> None:
    paths, topology = cluster.paths, cluster.topology
    addons.apply_policies(paths)
    for planned in cluster.nodes:
        cidrs = node.wait_registered(paths, planned)
        addresses = ", ".join(str(each.ip) for each in planned.addresses)
        say(f"{planned.alias}: {planned.name}, {addresses}, pods {', '.join(map(str, cidrs))}")
    proxies.route_fabric(paths, topology)
    if cluster.kubypass:
        proxies.apply_kubypass(paths, topology, settings)
    else:
        proxies.connect_pods(paths, topology)
    proxies.apply_kube_proxy(paths, topology, cluster.proxy)
    addons.apply_dns(paths, topology)
    for planned in cluster.nodes:
        node.wait_ready(paths, planned)
    say(f"nodes are ready, {_since(begun)}")
    proxies.wait_daemons(paths)
    rollout = ["-n", "kube-system", "rollout", "status", "deployment/coredns"]
    kubectl(paths, *rollout, "--timeout=240s", timeout_s=250)
    for planned in cluster.nodes:
        node.wait_images(paths, planned)
    say(f"proxy {cluster.proxy} and DNS, {_since(begun)}")


def _since(begun: float) -> str:
    return f"{time.monotonic() - begun:.0f} s"


def _describe(cluster: Cluster, *, ready: bool) -> Json:
    return {
        "name": cluster.paths.name,
        "ready": ready,
        "version": cluster.version,
        "proxy": cluster.proxy,
        "kubypass": cluster.kubypass,
        "topology": describe_topology(cluster.topology),
    }


def _parse(paths: ClusterPaths, description: Json) -> Cluster:
    topology = parse_topology(mapping(description["topology"]))
    proxy = proxies.parse_proxy(str(description["proxy"]))
    return Cluster(
        paths, topology, proxy, bool(description["kubypass"]), str(description["version"])
    )
