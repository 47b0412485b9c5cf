# SPDX-License-Identifier: Apache-2.0
"""Settings: which Services are served, and for whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubypass.settings.key import Kind, setting
from kubypass.settings.kinds import LABEL_VALUE, SWITCH
from kubypass.settings.parse import parse_choice, parse_networks

if TYPE_CHECKING:
    from kubypass.model.cidr import Cidr

_REPLACEMENT_WORDS = {
    "strict": 'write "true": it means the same, and Cilium 1.16 and newer refuse "strict"',
    "probe": 'write "true"; as "strict" here',
    "partial": 'write "true"; NodePorts as enable-node-port says, sockets as bpf-lb-sock says',
    "disabled": 'write "false"',
}


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Which Services are served, and for whom."""

    kube_proxy_replacement: str = setting(
        "kube-proxy-replacement",
        Kind("word", parse_choice("true", "false", *_REPLACEMENT_WORDS)),
        "true",
        "true",
        "Does all of kube-proxy's work. false: only ClusterIPs, and only for pods.",
        choices=("true", "false"),
        deprecated_values=_REPLACEMENT_WORDS,
    )
    external_cluster_ip: bool = setting(
        "bpf-lb-external-clusterip", SWITCH, False, "false",
        "ClusterIPs also answer clients outside of the cluster, if these route them to a node.",
    )  # fmt: skip
    enable_node_port: bool = setting(
        "enable-node-port", SWITCH, False, "false",
        "Serves NodePorts with kube-proxy-replacement: partial; true and strict always do.",
    )  # fmt: skip
    enable_host_port: bool = setting(
        "enable-host-port", SWITCH, False, "false",
        "Serves pods' hostPorts with kube-proxy-replacement: partial; true and strict always do.",
    )  # fmt: skip
    cidrs: tuple[Cidr, ...] = setting(
        "service-cidrs", Kind("at most 4 networks, with commas", parse_networks), (), "",
        "Networks of the ClusterIPs. A packet to an address in them that no Service has is dropped.",
    )  # fmt: skip
    no_backend_response: str = setting(
        "service-no-backend-response", Kind("word", parse_choice("reject", "drop")), "reject", "reject",
        "What clients of a Service without endpoints get: port unreachable (a refused connection), or "
        "nothing.", choices=("reject", "drop"),
    )  # fmt: skip
    source_ranges_for_all_types: bool = setting(
        "bpf-lb-source-range-all-types", SWITCH, False, "false",
        "loadBalancerSourceRanges also hold for the Service's NodePorts and external addresses, not only "
        "for those of the load balancer.",
    )  # fmt: skip
    answer_ping: bool = setting(
        "enable-service-ping", SWITCH, False, "false",
        "Service addresses answer pings. Not one of Cilium's keys.",
    )  # fmt: skip
    acceleration: str = setting(
        "bpf-lb-acceleration",
        Kind("word", parse_choice("disabled", "native", "best-effort", "generic")),
        "disabled",
        "disabled",
        "XDP: packets of external clients to backends on other nodes, and their answers, are translated in the "
        "drivers of the uplinks. native: every uplink has to be able to; best-effort: those that are; generic: in the "
        "kernel's receive path, with any driver.",
        choices=("disabled", "native", "best-effort", "generic"),
    )
    proxy_name: str = setting(
        "k8s-service-proxy-name", LABEL_VALUE, "", "",
        "Serves only Services whose label service.kubernetes.io/service-proxy-name has this value. "
        "Unset: only those without the label.",
    )  # fmt: skip

    @property
    def with_external(self) -> bool:
        """Whether addresses for clients outside are served: external IPs and those of load balancers."""
        return self.kube_proxy_replacement not in {"false", "disabled"}

    @property
    def with_node_ports(self) -> bool:
        """Whether NodePorts are served."""
        if self.kube_proxy_replacement == "partial":
            return self.enable_node_port
        return self.with_external

    @property
    def with_host_ports(self) -> bool:
        """Whether pods' hostPorts are served."""
        if self.kube_proxy_replacement == "partial":
            return self.enable_host_port
        return self.with_external
