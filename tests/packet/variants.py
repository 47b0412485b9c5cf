# SPDX-License-Identifier: Apache-2.0
"""The node of random scenarios, and the settings that it may have.

Each is there twice: as an operator writes them, and as the reference is told.
"""

from __future__ import annotations

from typing import Any

from tests.packet.dsr import PEERS
from tests.packet.packets import V4, V6
from tests.packet.pipeline import NODE, NodeAddresses
from tests.packet.reference import Node

NODE_ADDRESSES = NodeAddresses(
    primary=(V4.node, V6.node),
    others=("192.168.9.9", "fd00:9::9"),
    pods=(V4.pod, V4.second_pod, "10.99.0.5", V6.pod, V6.second_pod, "fd00:99::5"),
    pod_networks=("10.233.64.0/24", "fd00:10:233:64::/64"),
)
WIDE_POD_NETWORKS = ("10.233.0.0/16", "fd00:10:233::/48")
SERVICE_NETWORKS = ("10.233.30.0/24", "fd00:10:233::/112")


def _settings(**words: str) -> dict[str, str]:
    return {key.replace("_", "-"): value for key, value in words.items()}


SETTINGS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "as it comes": (
        _settings(
            ipv4_native_routing_cidr="10.0.0.0/8", ipv6_native_routing_cidr="fd00:10:233::/48"
        ),
        {"inside": ("10.0.0.0/8", "fd00:10:233::/48")},
    ),
    "by cluster CIDR": (
        _settings(
            detect_local_mode="ClusterCIDR",
            cluster_cidr=",".join(WIDE_POD_NETWORKS),
            service_cidrs=",".join(SERVICE_NETWORKS),
            bpf_lb_external_clusterip="true",
        ),
        {
            "detect": "networks",
            "networks": WIDE_POD_NETWORKS,
            "inside": WIDE_POD_NETWORKS,
            "service_networks": SERVICE_NETWORKS,
            "external_cluster_ip": True,
        },
    ),
    "no detector, silent": (
        _settings(
            detect_local_mode="none",
            service_no_backend_response="drop",
            bpf_lb_external_clusterip="true",
            nodeport_addresses="primary",
        ),
        {
            "detect": "none",
            "reject": False,
            "external_cluster_ip": True,
            "node_port_addresses": "primary",
        },
    ),
    "by node CIDR, masquerade all": (
        _settings(
            detect_local_mode="NodeCIDR",
            masquerade_all="true",
            nodeport_addresses="192.168.1.0/24",
            service_cidrs=SERVICE_NETWORKS[0],
        ),
        {
            "detect": "networks",
            "networks": NODE_ADDRESSES.pod_networks,
            "masquerade_all": True,
            "node_port_addresses": ("192.168.1.0/24",),
            "service_networks": SERVICE_NETWORKS[:1],
        },
    ),
    "by a cluster CIDR of IPv6": (
        _settings(
            detect_local_mode="ClusterCIDR",
            cluster_cidr=WIDE_POD_NETWORKS[1],
            bpf_lb_external_clusterip="true",
        ),
        {
            "detect": "networks",
            "networks": WIDE_POD_NETWORKS[1:],
            "inside": WIDE_POD_NETWORKS[1:],
            "external_cluster_ip": True,
        },
    ),
    "no node ports": (
        _settings(kube_proxy_replacement="partial", detect_local_mode="NodeCIDR"),
        {"node_ports": False, "detect": "networks", "networks": NODE_ADDRESSES.pod_networks},
    ),
    "by Maglev": (
        _settings(
            bpf_lb_algorithm="maglev",
            bpf_lb_algorithm_annotation="true",
            bpf_lb_maglev_table_size="251",
            bpf_lb_maglev_hash_seed="c2V2ZW4gZHdhcmZz",
            bpf_lb_external_clusterip="true",
            ipv4_native_routing_cidr="10.0.0.0/8",
            ipv6_native_routing_cidr="fd00:10:233::/48",
        ),
        {
            "inside": ("10.0.0.0/8", "fd00:10:233::/48"),
            "external_cluster_ip": True,
            "maglev_cells": 251,
            "maglev_seed": b"seven dwarfs",
        },
    ),
    "by DSR": (
        _settings(
            bpf_lb_mode="dsr",
            bpf_lb_mode_annotation="true",
            bpf_lb_external_clusterip="true",
            ipv4_native_routing_cidr="10.0.0.0/8",
            ipv6_native_routing_cidr="fd00:10:233::/48",
        ),
        {
            "inside": ("10.0.0.0/8", "fd00:10:233::/48"),
            "external_cluster_ip": True,
            "peers": tuple(PEERS),
        },
    ),
    "ClusterIPs only": (
        _settings(kube_proxy_replacement="false"),
        {"node_ports": False, "external": False},
    ),
}
"""Each with what the reference is told."""


def node(name: str) -> Node:
    """The node of the reference with these settings."""
    return Node(
        NODE,
        NODE_ADDRESSES.primary,
        NODE_ADDRESSES.others,
        NODE_ADDRESSES.pods,
        **SETTINGS[name][1],
    )
