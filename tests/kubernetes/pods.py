# SPDX-License-Identifier: Apache-2.0
"""Pods as a real API has them."""

from __future__ import annotations

from typing import Any

from tests.kubernetes.cluster import Cluster

PODS = "/api/v1/namespaces/default/pods"


def pod(cluster: Cluster, name: str, node: str, address: str, **metadata: Any) -> None:
    container = {
        "name": "web",
        "image": "web:1",
        "ports": [{"containerPort": 8080, "hostPort": 9000}],
    }
    spec = {
        "nodeName": node,
        "containers": [container],
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
    }
    cluster.servers.create(PODS, {"metadata": {"name": name, **metadata}, "spec": spec})
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
    cluster.servers.change(f"{PODS}/{name}/status", {"status": status})


def prepare(cluster: Cluster) -> None:
    account = "/api/v1/namespaces/default/serviceaccounts"
    if cluster.servers.curl(f"{account}/default")[0] == 404:
        cluster.servers.create(account, {"metadata": {"name": "default"}})
