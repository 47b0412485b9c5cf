# SPDX-License-Identifier: Apache-2.0
"""What every cluster has beside its control plane: cluster DNS and the image policy."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from string import Template

from kubypass_lab.box.kubernetes.control_plane import PORT
from kubypass_lab.box.kubernetes.images import COREDNS
from kubypass_lab.box.kubernetes.kubectl import apply
from kubypass_lab.box.kubernetes.paths import ClusterPaths
from kubypass_lab.box.kubernetes.programs import policy_api
from kubypass_lab.box.topology import Topology

_MANIFESTS = Path(__file__).with_name("manifests")


def manifest(name: str, values: dict[str, str]) -> str:
    """The YAML file `name`, filled in with `values`."""
    return Template((_MANIFESTS / name).read_text()).substitute(values)


def dns_address(topology: Topology) -> IPv4Address | IPv6Address:
    """The address of cluster DNS: the tenth of the service CIDR."""
    return topology.service_cidrs[0].network_address + 10


def apply_policies(paths: ClusterPaths) -> None:
    """Apply the policy that keeps pods from pulling images."""
    apply(paths, manifest("pull-policy.yaml", {"policy_api": policy_api(paths.version)}))


def apply_dns(paths: ClusterPaths, topology: Topology) -> None:
    """Install cluster DNS."""
    values = {
        "image": COREDNS,
        "api_host": str(topology.gateway),
        "api_port": str(PORT),
        "dns_ip": str(dns_address(topology)),
    }
    apply(paths, manifest("dns.yaml", values))
