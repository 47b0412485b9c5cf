# SPDX-License-Identifier: Apache-2.0
"""What the replacement of kube-proxy consists of, for `kubypass status`. Pure."""

from __future__ import annotations

from kubypass.settings.settings import Settings

OPEN_CLUSTER_IPS = (
    "bpf-lb-external-clusterip is on: every ClusterIP answers to whoever can route to this node, not only to pods and "
    "nodes; set it to false and use NodePorts or load balancers if that is not wanted"
)


def replacement_details(settings: Settings) -> dict[str, object]:
    """By the names that `cilium status --verbose` has where it has one."""
    first, last = settings.node_ports.port_range
    external = _on(settings.services.with_external)
    return {
        "Mode": "SNAT",
        "Backend Selection": "Random",
        "Session Affinity": "Enabled",
        "Graceful Termination": "Enabled",
        "Without Endpoints": settings.services.no_backend_response.capitalize(),
        "Local Detection": settings.pods.detect_local_mode,
        "Masquerade All": _on(settings.masquerade.cluster_ip_clients),
        "ClusterIP": "Enabled, from outside too"
        if settings.services.external_cluster_ip
        else "Enabled",
        "NodePort": f"Enabled (Range: {first}-{last})"
        if settings.services.with_node_ports
        else "Disabled",
        "LoadBalancer": external,
        "externalIPs": external,
    }


def opened(settings: Settings) -> list[str]:
    """Settings that let in more than one may think."""
    return [OPEN_CLUSTER_IPS] if settings.services.external_cluster_ip else []


def _on(switch: bool) -> str:
    return "Enabled" if switch else "Disabled"
