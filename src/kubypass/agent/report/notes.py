# SPDX-License-Identifier: Apache-2.0
"""What an operator should know about the settings in use."""

from __future__ import annotations

from kubypass.settings.settings import Settings

OPEN_CLUSTER_IPS = (
    "bpf-lb-external-clusterip is on: every ClusterIP answers to whoever can route to this node, not only to pods and "
    "nodes; set it to false and use NodePorts or load balancers if that is not wanted"
)


def open_to_outside(settings: Settings) -> list[str]:
    """Settings that let in more clients than an operator may expect."""
    return [OPEN_CLUSTER_IPS] if settings.services.external_cluster_ip else []
