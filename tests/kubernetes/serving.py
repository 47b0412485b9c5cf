# SPDX-License-Identifier: Apache-2.0
"""Deployments whose pods say who they are, as a careful user writes them, and where their clients run."""

from __future__ import annotations

import inspect
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kubypass_lab.box import responder
from kubypass_lab.box.enter import run_in
from kubypass_lab.box.kubernetes.cluster import Cluster
from kubypass_lab.box.kubernetes.images import AGNHOST
from kubypass_lab.box.kubernetes.kubectl import apply, get_items, kubectl
from kubypass_lab.box.kubernetes.node import node_target
from kubypass_lab.box.paths import CLIENT
from kubypass_lab.box.process import cgroup_processes, wait_until

NAMESPACE = "lost"
AGENTS = ("-n", "kube-system", "daemonset/kubypass")
SERVER_IMAGE = "docker.io/kubypass/kubypass:0.1.0"
"""Has Python in it, and the nodes have it; the lab is not in it, so the responder comes as text."""
PRE_STOP_S = 10
TCP, UDP = 80, 53
_IN = ("-n", NAMESPACE)
_ENVIRONMENT = (("POD", "metadata.name"), ("NODE", "spec.nodeName"))


@dataclass(frozen=True, slots=True)
class Served:
    """A Service, and how it is reached."""

    name: str
    cluster_ip: str
    node_ports: dict[int, int]  # of TCP and UDP


def serve(cluster: Cluster, name: str, replicas: int, node: str = "") -> Served:
    """A Deployment on all nodes, or on one, and its Service; once all pods are ready."""
    documents = [_deployment(name, replicas, node), _service(name)]
    apply(cluster.paths, yaml.safe_dump_all(documents))
    wait_rolled_out(cluster, f"deployment/{name}")
    text = kubectl(cluster.paths, *_IN, "get", "service", name, "-o", "json")
    spec = json.loads(text)["spec"]
    return Served(name, spec["clusterIP"], {p["port"]: p["nodePort"] for p in spec["ports"]})


def wait_rolled_out(
    cluster: Cluster, what: str, seconds: int = 300, namespace: str = NAMESPACE
) -> None:
    words = ["-n", namespace, "rollout", "status", what, f"--timeout={seconds}s"]
    kubectl(cluster.paths, *words, timeout_s=seconds + 10)


def _deployment(name: str, replicas: int, node: str) -> dict[str, object]:
    environment = [
        {"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}} for key, path in _ENVIRONMENT
    ]
    container = {
        "name": "server",
        "image": SERVER_IMAGE,
        "command": ["/usr/bin/python3", "-c", inspect.getsource(responder)],
        "args": ["--pod=$(POD)", "--node=$(NODE)", "--tcp=8080", "--udp=5353"],
        "env": environment,
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 2, "timeoutSeconds": 5},
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_S}}},
    }
    pod: dict[str, object] = {
        "containers": [container],
        "terminationGracePeriodSeconds": PRE_STOP_S + 20,
        "automountServiceAccountToken": False,
    }
    labels = {"app": name}
    if node:
        pod["nodeSelector"] = {"kubernetes.io/hostname": node}
    else:
        spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname"}
        spread["whenUnsatisfiable"] = "ScheduleAnyway"
        pod["topologySpreadConstraints"] = [{**spread, "labelSelector": {"matchLabels": labels}}]
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def _service(name: str) -> dict[str, object]:
    ports = [
        {"name": "tcp", "port": TCP, "targetPort": 8080},
        {"name": "udp", "port": UDP, "targetPort": 5353, "protocol": "UDP"},
    ]
    spec = {"type": "NodePort", "selector": {"app": name}, "ports": ports}
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def make_askers(cluster: Cluster) -> None:
    """A pod on each node for clients to be in."""
    container = {"name": "asker", "image": AGNHOST, "args": ["pause"]}
    documents = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"asker-{node.alias}", "namespace": NAMESPACE},
            "spec": {
                "nodeName": node.name,
                "containers": [container],
                "terminationGracePeriodSeconds": 0,
            },
        }
        for node in cluster.nodes
    ]
    apply(cluster.paths, yaml.safe_dump_all(documents))
    names = [f"pod/asker-{node.alias}" for node in cluster.nodes]
    kubectl(
        cluster.paths,
        *_IN,
        "wait",
        "--for=condition=Ready",
        "--timeout=290s",
        *names,
        timeout_s=300,
    )


def container_cgroup(cluster: Cluster, pod: dict[str, Any]) -> Path:
    """The cgroup of the first container of a pod that runs."""
    container = str(pod["status"]["containerStatuses"][0]["containerID"]).rpartition("/")[2]
    node = str(pod["spec"]["nodeName"])
    return next(cluster.paths.node_cgroup(node).rglob(f"*{container}*"))


def command_at(cluster: Cluster, place: str, command: list[str]) -> list[str]:
    """The command line that runs a program of this machine in a place: client, node1, pod/asker-node1."""
    paths = cluster.paths
    if place.startswith("pod/"):
        (pod,) = get_items(paths, "pods", *_IN, f"--field-selector=metadata.name={place[4:]}")
        cgroup = container_cgroup(cluster, pod)
        namespace = f"/proc/{cgroup_processes(cgroup)[0]}/ns/net"
    else:
        host = CLIENT if place == CLIENT else cluster.topology.node(place).name
        cgroup, namespace = paths.host_cgroup(host), f"/run/netns/{paths.namespace(host)}"
    join = 'echo 0 > "$1/cgroup.procs" && shift && exec "$@"'
    return ["sh", "-c", join, "sh", str(cgroup), "nsenter", f"--net={namespace}", "--", *command]


def agents(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """The agents' pods, by node."""
    words = ("-n", "kube-system", "-l", "k8s-app=kubypass")
    pods: list[dict[str, Any]] = [*get_items(cluster.paths, "pods", *words)]
    return {str(pod["spec"]["nodeName"]): pod for pod in pods}


def ask_agent(cluster: Cluster, node: str, *words: str) -> str:
    """What `kubypass` says in a node's agent."""
    name = agents(cluster)[node]["metadata"]["name"]
    command = ["exec", "-n", "kube-system", str(name), "-c", "agent", "--", "kubypass", *words]
    return kubectl(cluster.paths, *command)


def leases(cluster: Cluster, node: str) -> Counter[str]:
    """A node's pod addresses that are given out, and how often."""
    words = ["sh", "-c", "cat /run/kubypass/pods/*.json"]
    text = run_in(node_target(cluster.paths, node), words).stdout
    return Counter(address for record in _records(text) for address in record["addresses"])


def _records(text: str) -> Iterator[dict[str, list[str]]]:
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        record, at = decoder.raw_decode(text, at)
        yield record


def pod_addresses(cluster: Cluster, node: str) -> Counter[str]:
    """Addresses of a node's pods that have a network of their own."""
    field = f"--field-selector=spec.nodeName={node}"
    pods: list[dict[str, Any]] = [*get_items(cluster.paths, "pods", "-A", field)]
    own = [pod for pod in pods if not pod["spec"].get("hostNetwork")]
    return Counter(ip["ip"] for pod in own for ip in pod["status"].get("podIPs", []))


def check_leases(cluster: Cluster, seconds: float = 90) -> None:
    """Each pod has its address for itself, and no other address is given out."""
    for node in cluster.nodes:
        found: list[Counter[str]] = []

        def agree(name: str = node.name, found: list[Counter[str]] = found) -> bool:
            found[:] = [leases(cluster, name), pod_addresses(cluster, name)]
            return found[0] == found[1]

        assert wait_until(agree, seconds), (
            f"{node.name}: {found[0] - found[1]}, {found[1] - found[0]}"
        )
        assert set(found[0].values()) <= {1}


def remove(cluster: Cluster, *names: str) -> None:
    """Deployments with their Services."""
    objects = [f"{kind}/{name}" for name in names for kind in ("deployment", "service")]
    kubectl(cluster.paths, "-n", NAMESPACE, "delete", *objects, "--wait=false")


def kill_agent(cluster: Cluster, node: str) -> None:
    """SIGKILL for all of an agent's container; returns once another serves."""
    pod = agents(cluster)[node]
    before = pod["status"]["containerStatuses"][0]["containerID"]
    for pid in cgroup_processes(container_cgroup(cluster, pod)):
        os.kill(pid, signal.SIGKILL)

    def serves() -> bool:
        now = agents(cluster)[node]["status"]["containerStatuses"][0]
        return bool(now["ready"] and now["containerID"] != before)

    assert wait_until(serves, 300)
