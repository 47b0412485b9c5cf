# SPDX-License-Identifier: Apache-2.0
"""The pod network as kubelet and containerd ask for it, on a real cluster."""

from __future__ import annotations

import ipaddress
import json
from functools import partial
from typing import Any

from kubypass_lab.box.enter import run_in
from kubypass_lab.box.kubernetes import cluster as boxes
from kubypass_lab.box.kubernetes.enter import cluster_target
from kubypass_lab.box.kubernetes.images import AGNHOST
from kubypass_lab.box.kubernetes.kubectl import apply, get_items, kubectl, wait_kubectl
from kubypass_lab.box.process import wait_until

Cluster = boxes.Cluster
MANY = 20
SERVER = f"""
apiVersion: v1
kind: Pod
metadata: {{name: NAME, labels: {{app: NAME}}}}
spec:
  nodeName: NODE
  terminationGracePeriodSeconds: 0
  containers:
  - name: server
    image: {AGNHOST}
    args: [netexec, --http-port=80]
    ports: [{{containerPort: 80, hostPort: 8088}}]
"""
CROWD = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: crowd}}
spec:
  replicas: {MANY}
  selector: {{matchLabels: {{app: crowd}}}}
  template:
    metadata: {{labels: {{app: crowd}}}}
    spec:
      nodeName: NODE
      terminationGracePeriodSeconds: 0
      containers: [{{name: idle, image: {AGNHOST}, args: [pause]}}]
"""


def on(cluster: Cluster, where: str, *words: str) -> str:
    """What a command says in a place."""
    return run_in(cluster_target(cluster, where), words, timeout_s=300).stdout.strip()


def records(cluster: Cluster, node: str) -> list[dict[str, Any]]:
    text = on(cluster, node, "sh", "-c", "cat /run/kubypass/pods/*.json 2>/dev/null")
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text):
        record, at = decoder.raw_decode(text, at)
        found.append(record)
    return found


def pods_of(cluster: Cluster, node: str) -> dict[str, set[str]]:
    """The pods that have a network of their own: name to addresses."""
    field = f"--field-selector=spec.nodeName={node}"
    pods: list[dict[str, Any]] = [*get_items(cluster.paths, "pods", "-A", field)]
    return {
        pod["metadata"]["name"]: {ip["ip"] for ip in pod["status"].get("podIPs", ())}
        for pod in pods
        if not pod["spec"].get("hostNetwork")
    }


def books_agree(cluster: Cluster, node: str) -> bool:
    """Records are the API's pods, with the same addresses."""
    found = records(cluster, node)
    kept = {record["name"]: set(record["addresses"]) for record in found}
    return len(found) == len(kept) and kept == pods_of(cluster, node)


def kill_agent(cluster: Cluster, node: str) -> None:
    """The pod of the agent ends at once, and the DaemonSet makes another."""
    words = ["-n", "kube-system", "delete", "pod", "-l", "k8s-app=kubypass"]
    field = f"--field-selector=spec.nodeName={node}"
    kubectl(cluster.paths, *words, field, "--grace-period=0", "--force", timeout_s=300)


def test_pods_have_addresses_of_their_node(two_nodes: Cluster) -> None:
    nodes: list[dict[str, Any]] = [*get_items(two_nodes.paths, "nodes")]
    for node in nodes:
        name = str(node["metadata"]["name"])
        assert wait_until(partial(books_agree, two_nodes, name), 300)
        networks = [ipaddress.ip_network(cidr) for cidr in node["spec"]["podCIDRs"]]
        for addresses in pods_of(two_nodes, name).values():
            assert all(any(ipaddress.ip_address(a) in n for n in networks) for a in addresses)


def says_its_name(cluster: Cluster, where: str, url: str) -> bool:
    return on(cluster, where, "curl", "-s", "-m", "2", url) == "host-port"


def test_a_host_port_needs_no_other_plugin(two_nodes: Cluster) -> None:
    node = two_nodes.nodes[0]
    configurations = on(two_nodes, node.name, "ls", "/etc/cni/net.d").split()
    assert configurations[0] == "05-kubypass.conflist"
    assert "portmap" not in on(two_nodes, node.name, "cat", f"/etc/cni/net.d/{configurations[0]}")
    apply(two_nodes.paths, SERVER.replace("NAME", "host-port").replace("NODE", node.name))
    try:
        wait_kubectl(
            two_nodes.paths, 300, "wait", "--for=condition=Ready", "pod/host-port", "--timeout=5s"
        )
        url = f"http://{node.address(4)}:8088/hostname"
        for where in ("client", *(each.name for each in two_nodes.nodes)):
            assert wait_until(partial(says_its_name, two_nodes, where, url), 300), where
    finally:
        kubectl(two_nodes.paths, "delete", "pod/host-port", "--now")


def test_running_pods_follow_their_node_s_mtu(two_nodes: Cluster) -> None:
    node = two_nodes.nodes[0].name
    apply(two_nodes.paths, SERVER.replace("NAME", "mtu").replace("NODE", node))
    try:
        wait_kubectl(
            two_nodes.paths, 300, "wait", "--for=condition=Ready", "pod/mtu", "--timeout=5s"
        )

        def mtu() -> str:
            words = ["exec", "mtu", "--", "cat", "/sys/class/net/eth0/mtu"]
            return kubectl(two_nodes.paths, *words).strip()

        assert mtu() == "1500"
        on(two_nodes, node, "ip", "link", "set", "eth0", "mtu", "1400")
        assert wait_until(lambda: mtu() == "1400", 300)
        on(two_nodes, node, "ip", "link", "set", "eth0", "mtu", "1500")
        assert wait_until(lambda: mtu() == "1500", 300)
    finally:
        kubectl(two_nodes.paths, "delete", "pod/mtu", "--now")


def test_many_pods_come_and_go_while_agents_are_killed(two_nodes: Cluster) -> None:
    paths, node = two_nodes.paths, two_nodes.nodes[1].name
    rollout = ["rollout", "status", "deployment/crowd", "--timeout=5s"]
    apply(paths, CROWD.replace("NODE", node))
    try:
        kill_agent(two_nodes, node)
        wait_kubectl(paths, 180, *rollout)
        assert wait_until(lambda: books_agree(two_nodes, node), 300)
        kubectl(paths, "rollout", "restart", "deployment/crowd")
        kill_agent(two_nodes, node)
        wait_kubectl(paths, 240, *rollout)
        assert wait_until(lambda: books_agree(two_nodes, node), 300)
    finally:
        kubectl(paths, "delete", "deployment/crowd", "--now")
    kill_agent(two_nodes, node)
    wait_kubectl(paths, 300, "wait", "--for=delete", "pod", "-l", "app=crowd", "--timeout=5s")
    assert wait_until(lambda: books_agree(two_nodes, node), 300)
