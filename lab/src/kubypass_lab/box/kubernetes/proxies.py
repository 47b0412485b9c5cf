# SPDX-License-Identifier: Apache-2.0
"""What serves a cluster's Services, and what connects its pods.

kubypass brings its plugin and routes. Without it, the plain `ptp` plugin and static routes between nodes connect the
pods.
"""

from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path
from typing import Literal, cast, get_args

from kubypass.errors import ConfigError, KubypassError
from kubypass_lab.box.enter import run_in
from kubypass_lab.box.kubekey import IPNetwork
from kubypass_lab.box.kubernetes.addons import manifest
from kubypass_lab.box.kubernetes.control_plane import server_url
from kubypass_lab.box.kubernetes.images import KUBE_PROXY
from kubypass_lab.box.kubernetes.kubectl import apply, get_items, kubectl
from kubypass_lab.box.kubernetes.kubypass import kubypass_manifests
from kubypass_lab.box.kubernetes.node import node_target
from kubypass_lab.box.kubernetes.paths import ClusterPaths
from kubypass_lab.box.paths import FABRIC
from kubypass_lab.box.topology import Topology
from kubypass_lab.box.wiring import route_pods, set_sysctls

Proxy = Literal["kubypass", "kube-proxy-iptables", "kube-proxy-nftables", "none"]
PROXIES: tuple[Proxy, ...] = get_args(Proxy)
_KUBE_PROXY = "kube-proxy-"
_ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}
_EVERY_ADDRESS = {4: "0.0.0.0", 6: "::"}  # noqa: S104 (as kubeadm has it)
_FORWARD = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")


def parse_proxy(name: str) -> Proxy:
    """The proxy of this name; ConfigError if there is none."""
    for proxy in PROXIES:
        if proxy == name:
            return proxy
    raise ConfigError(f"--proxy {name!r}", f"expected one of {', '.join(PROXIES)}")


def route_fabric(paths: ClusterPaths, topology: Topology) -> None:
    """Add routes to the nodes' pods on the network between the machines."""
    slices = _slices(paths)
    for node in topology.nodes:
        route_pods(paths.namespace(FABRIC), node, slices[node.name])


def connect_pods(paths: ClusterPaths, topology: Topology) -> None:
    """Add routes between nodes, and configure the `ptp` plugin, which makes pods' links."""
    slices = _slices(paths)
    for node in topology.nodes:
        set_sysctls(paths.namespace(node.name), _FORWARD, optional=True)
        for other in topology.nodes:
            if other != node:
                route_pods(paths.namespace(node.name), other, slices[other.name])
        text = json.dumps(plugin_list(slices[node.name]), indent=1)
        words = ["sh", "-c", 'printf "%s\\n" "$1" > /etc/cni/net.d/10-ptp.conflist', "sh", text]
        result = run_in(node_target(paths, node.name), words)
        if result.returncode != 0:
            raise KubypassError(f"{node.name}: no plugin configuration: {result.stderr.strip()}")


def plugin_list(cidrs: list[IPNetwork]) -> dict[str, object]:
    """The CNI configuration of a node whose pods have addresses of `cidrs`."""
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": str(cidr)}] for cidr in cidrs],
        "routes": [{"dst": _ANYWHERE[cidr.version]} for cidr in cidrs],
    }
    ptp = {"type": "ptp", "mtu": 1500, "ipam": ipam}
    host_ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "box", "plugins": [ptp, host_ports]}


def apply_kubypass(paths: ClusterPaths, topology: Topology, settings: Path) -> None:
    """Install kubypass with `settings`."""
    apply(paths, kubypass_manifests(topology, settings))


def apply_kube_proxy(paths: ClusterPaths, topology: Topology, proxy: Proxy) -> None:
    """Install the real kube-proxy if it is the cluster's proxy."""
    if proxy.startswith(_KUBE_PROXY):
        values = {
            "mode": proxy.removeprefix(_KUBE_PROXY),
            "pods": ",".join(map(str, topology.pod_cidrs)),
            "server": server_url(topology),
            "every_address": _EVERY_ADDRESS[topology.gateway.version],
            "image": KUBE_PROXY,
        }
        apply(paths, manifest("kube-proxy.yaml", values))


def wait_daemons(paths: ClusterPaths) -> None:
    """Wait until kubypass and kube-proxy, where installed, serve on every node."""
    daemons = kubectl(paths, "-n", "kube-system", "get", "daemonsets", "-o", "name").split()
    for daemon in daemons:
        rollout = ["-n", "kube-system", "rollout", "status", daemon]
        kubectl(paths, *rollout, "--timeout=240s", timeout_s=250.0)


def _slices(paths: ClusterPaths) -> dict[str, list[IPNetwork]]:
    """The pod CIDRs of each node, which the controller manager assigned."""
    found = {}
    for item in get_items(paths, "nodes"):
        node = cast("dict[str, dict[str, object]]", item)
        cidrs = cast("list[str]", node["spec"].get("podCIDRs", []))
        found[str(node["metadata"]["name"])] = [ip_network(cidr) for cidr in cidrs]
    return found
