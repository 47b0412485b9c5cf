# SPDX-License-Identifier: Apache-2.0
"""Services that come, change and go, ten of each a second."""

from __future__ import annotations

import json
import time
from functools import partial
from http.client import NOT_FOUND

from kubypass.kernel.netns import inside
from kubypass.kube.client.failures import Refused
from kubypass.kube.client.rest import Rest, open_cluster
from kubypass_lab.box.kubernetes.cluster import Cluster
from kubypass_lab.box.process import wait_until
from tests.kubernetes.serving import NAMESPACE, ask_agent

_EACH_S = 10
_PATH = f"/api/v1/namespaces/{NAMESPACE}/services"
_MERGE = "application/merge-patch+json"


def churn(cluster: Cluster, seconds: float) -> int:
    """Creates, changes and deletes services of the pods of `steady`; how often. All are gone at the end."""
    done = 0
    made: list[str] = []
    changed: list[str] = []
    with inside(cluster.paths.fabric):
        rest = open_cluster(cluster.paths.kubeconfig)
        begun = time.monotonic()
        for second in range(int(seconds)):
            for name in changed:
                _delete(rest, name)
            for name in made:
                ports = [{"name": "tcp", "port": 81, "targetPort": 8080}]
                rest.request(f"{_PATH}/{name}", "PATCH", {"spec": {"ports": ports}}, _MERGE)
            done += len(changed) + len(made) + _EACH_S
            made, changed = [f"churn-{second}-{number}" for number in range(_EACH_S)], made
            for name in made:
                rest.request(_PATH, "POST", _service(name))
            time.sleep(max(0.0, begun + second + 1 - time.monotonic()))
        for name in (*changed, *made):
            _delete(rest, name)
    return done


def _service(name: str) -> dict[str, object]:
    ports = [{"name": "tcp", "port": 80, "targetPort": 8080}]
    spec = {"selector": {"app": "steady"}, "ports": ports, "type": "NodePort"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def _delete(rest: Rest, name: str) -> None:
    try:
        rest.request(f"{_PATH}/{name}", "DELETE")
    except Refused as refusal:
        if refusal.code != NOT_FOUND:
            raise


def check_served(cluster: Cluster, seconds: float = 60) -> None:
    """Each agent serves just the ClusterIPs that the API has."""
    with inside(cluster.paths.fabric):
        services = open_cluster(cluster.paths.kubeconfig).list("/api/v1/services")
    wanted = {each["spec"]["clusterIP"] for each in services} - {"None"}
    for node in cluster.nodes:
        assert wait_until(partial(is_served, cluster, node.name, wanted), seconds)
        assert not served(cluster, node.name) - wanted


def is_served(cluster: Cluster, node: str, wanted: set[str]) -> bool:
    return served(cluster, node) >= wanted


def served(cluster: Cluster, node: str) -> set[str]:
    """ClusterIPs that a node's agent serves."""
    rows = json.loads(ask_agent(cluster, node, "service", "list", "-o", "json"))["services"]
    return {row["frontend"].rpartition(":")[0] for row in rows if row["type"] == "ClusterIP"}
