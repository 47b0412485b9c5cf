# SPDX-License-Identifier: Apache-2.0
"""Settings in a ConfigMap."""

from __future__ import annotations

from tests.kubernetes.cluster import CONFIG_MAPS, Cluster

NAME = "kube-system/kubypass-config"


def config_map(cluster: Cluster, **values: str) -> None:
    data = {key.replace("_", "-"): value for key, value in values.items()}
    cluster.servers.create(CONFIG_MAPS, {"metadata": {"name": "kubypass-config"}, "data": data})


def arguments(cluster: Cluster) -> list[str]:
    return ["--kubeconfig", str(cluster.account()), "--config-map", NAME]
