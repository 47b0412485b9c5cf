# SPDX-License-Identifier: Apache-2.0
"""Every setting, once: field, key, values, default and meaning.

The keys are those of Cilium's `cilium-config`. `docs/settings.md` and the command line come from
`KEYS`. What was found on the node at run time is not here.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubypass.model.address import LOOPBACK, UNSPECIFIED, family, is_loopback, parse_address
from kubypass.model.selector import Selector, parse_selector
from kubypass.settings.key import Key, setting
from kubypass.settings.values import (
    NS_PER_S,
    NodePortAddresses,
    parse_bind_address,
    parse_bool,
    parse_choice,
    parse_cidrs,
    parse_duration_ns,
    parse_family_cidr,
    parse_family_cidrs,
    parse_nat_range,
    parse_networks,
    parse_node_port_addresses,
    parse_optional_bool,
    parse_port_range,
    parse_size,
    parse_text,
    parse_words,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from kubypass.model.address import Address, Family
    from kubypass.model.cidr import Cidr

MIN_MAP_ENTRIES: Final = 2**10
MAX_MAP_ENTRIES: Final = 2**24

_NO_EFFECT = "no effect yet"
_SWITCH = ("true or false", parse_bool)
_UNSET_SWITCH = ("true or false", parse_optional_bool)
_SIZE = ("number of entries, 1024 to 16777216", parse_size(MIN_MAP_ENTRIES, MAX_MAP_ENTRIES))
_SERVICE_SIZE = (
    "number of entries, 1024 to 16777216; 0: as bpf-lb-map-max",
    parse_size(MIN_MAP_ENTRIES, MAX_MAP_ENTRIES, inherit=True),
)
_DURATION = ("duration, such as 60s or 2h30m", parse_duration_ns)
_BIND_ADDRESS = ("address:port; empty: off", parse_bind_address)
_NAMES = ("names, separated by commas", parse_words)

_DETECTORS = ("InterfaceNamePrefix", "ClusterCIDR", "NodeCIDR", "none")

_REPLACEMENT_WORDS = {
    "strict": 'write "true": it means the same, and Cilium 1.16 and newer refuse "strict"',
    "probe": 'write "true"; as "strict" here',
    "partial": 'write "true"; NodePorts as enable-node-port says, sockets as bpf-lb-sock says',
    "disabled": 'write "false"',
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator wants. Times are in nanoseconds, sizes in map entries."""

    kube_proxy_replacement: str = setting(
        "kube-proxy-replacement",
        ("word", parse_choice("true", "false", *_REPLACEMENT_WORDS)),
        "true",
        "true",
        "Does all of kube-proxy's work. false: only ClusterIPs, and only for pods.",
        choices=("true", "false"),
        deprecated_values=_REPLACEMENT_WORDS,
    )
    bpf_lb_external_clusterip: bool = setting(
        "bpf-lb-external-clusterip", _SWITCH, False, "false",
        "ClusterIPs answer to clients outside of the cluster too, if they route them to a node.",
    )  # fmt: skip
    bpf_lb_sock: bool | None = setting(
        "bpf-lb-sock", _UNSET_SWITCH, None, "",
        "Chooses the backend when a socket connects. Unset: on, unless kube-proxy-replacement is "
        "false. false: packet by packet, at the pod's interface.",
    )  # fmt: skip
    bpf_lb_sock_hostns_only: bool = setting(
        "bpf-lb-sock-hostns-only", _SWITCH, False, "false",
        "Socket load balancing for processes of the node only; pods packet by packet.",
    )  # fmt: skip
    bpf_lb_sock_terminate_pod_connections: bool = setting(
        "bpf-lb-sock-terminate-pod-connections", _SWITCH, True, "true",
        "Connected UDP sockets of pods whose backend is gone are closed; false: only those of the node.",
    )  # fmt: skip
    bpf_lb_sock_terminate_all_protos: bool = setting(
        "bpf-lb-sock-terminate-all-protos", _SWITCH, False, "false",
        "TCP connections of sockets to a backend that is gone are closed too.",
    )  # fmt: skip
    bpf_lb_sock_exclude_pods: Selector = setting(  # noqa: RUF009
        "bpf-lb-sock-exclude-pods", ("label selector", parse_selector), (), "",
        "Pods whose sockets are left alone, packets are translated instead; such as those of a service "
        "mesh. Not one of Cilium's keys.", live=True,
    )  # fmt: skip
    bpf_lb_sock_exclude_runtime_classes: tuple[str, ...] = setting(
        "bpf-lb-sock-exclude-runtime-classes", _NAMES, (), "",
        "As bpf-lb-sock-exclude-pods, by runtime class. VMs and gVisor need it not: their sockets are "
        "not the kernel's.", live=True,
    )  # fmt: skip
    node_port_bind_protection: bool = setting(
        "node-port-bind-protection", _SWITCH, True, "true",
        "Processes of the node cannot listen on NodePorts.",
    )  # fmt: skip
    enable_auto_protect_node_port_range: bool = setting(
        "enable-auto-protect-node-port-range", _SWITCH, True, "true",
        "Where ephemeral ports overlap node-port-range, the kernel gives none of these "
        "(net.ipv4.ip_local_reserved_ports).",
    )  # fmt: skip
    enable_node_port: bool = setting(
        "enable-node-port", _SWITCH, False, "false",
        "NodePorts with kube-proxy-replacement: partial; true and strict include them.",
    )  # fmt: skip
    enable_host_port: bool = setting(
        "enable-host-port", _SWITCH, False, "false",
        "Ports of pods on their node's addresses with kube-proxy-replacement: partial; true and strict "
        "include them.",
    )  # fmt: skip
    enable_ipv4: bool = setting("enable-ipv4", _SWITCH, True, "true", "IPv4 services and pods.")
    enable_ipv6: bool = setting("enable-ipv6", _SWITCH, True, "true", "IPv6 services and pods.")
    routing_mode: str = setting(
        "routing-mode", ("word", parse_choice("native")), "native", "native",
        "Packets of pods are routed as they are; kubypass has no tunnels.", choices=("native",),
    )  # fmt: skip
    ipv4_native_routing_cidr: Cidr | None = setting(  # noqa: RUF009
        "ipv4-native-routing-cidr", ("IPv4 network", parse_family_cidr(4)), None, "",
        "Where packets are routed without masquerading; usually the pods' network.",
    )  # fmt: skip
    ipv6_native_routing_cidr: Cidr | None = setting(  # noqa: RUF009
        "ipv6-native-routing-cidr", ("IPv6 network", parse_family_cidr(6)), None, "",
        "As ipv4-native-routing-cidr.",
    )  # fmt: skip
    auto_direct_node_routes: bool = setting(
        "auto-direct-node-routes", _SWITCH, False, "false",
        "Routes to the other nodes' pods via those nodes' addresses; all nodes in one segment.",
        live=True,
    )  # fmt: skip
    direct_routing_skip_unreachable: bool = setting(
        "direct-routing-skip-unreachable", _SWITCH, False, "false",
        "With auto-direct-node-routes: nodes behind a gateway get no route, and are no problem; the network "
        "routes to their pods.", live=True,
    )  # fmt: skip
    mtu: int = setting(
        "mtu", ("bytes, 576 to 65535; 0: the uplink's", parse_size(576, 65535, inherit=True)), 0, "0",
        "Largest packet of pods; running ones are changed too.", live=True,
    )  # fmt: skip
    cni_exclusive: bool = setting(
        "cni-exclusive", _SWITCH, True, "true",
        "With --cni-conf-dir: configurations of other networks there are renamed to *.kubypass_bak. "
        "false: the first file by name counts.", live=True,
    )  # fmt: skip
    cluster_pool_ipv4_cidr: tuple[Cidr, ...] = setting(
        "cluster-pool-ipv4-cidr", ("IPv4 networks, with commas", parse_family_cidrs(4)), (), "",
        "Where pods' addresses come from; only to find services that overlap.",
    )  # fmt: skip
    cluster_pool_ipv6_cidr: tuple[Cidr, ...] = setting(
        "cluster-pool-ipv6-cidr", ("IPv6 networks, with commas", parse_family_cidrs(6)), (), "",
        "As cluster-pool-ipv4-cidr.",
    )  # fmt: skip
    enable_ipv4_masquerade: bool = setting(
        "enable-ipv4-masquerade", _SWITCH, True, "true",
        "Pods' packets to the outside leave with the node's address.", effect=_NO_EFFECT,
    )  # fmt: skip
    enable_ipv6_masquerade: bool = setting(
        "enable-ipv6-masquerade", _SWITCH, True, "true",
        "As enable-ipv4-masquerade.", effect=_NO_EFFECT,
    )  # fmt: skip
    enable_bpf_masquerade: bool = setting(
        "enable-bpf-masquerade", _SWITCH, False, "false",
        "Masquerading in BPF programs instead of netfilter.", effect=_NO_EFFECT,
    )  # fmt: skip
    devices: tuple[str, ...] = setting(
        "devices", _NAMES, (), "",
        "Uplinks, where NodePorts answer; a trailing + stands for any ending. Unset: those with a "
        "default route or the node's address.",
    )  # fmt: skip
    direct_routing_device: str = setting(
        "direct-routing-device", ("name", parse_text), "", "",
        "The uplink towards the other nodes. Unset: the one with the node's address.",
    )  # fmt: skip
    nodeport_addresses: NodePortAddresses = setting(  # noqa: RUF009
        "nodeport-addresses", ('"primary", or networks with commas', parse_node_port_addresses),
        NodePortAddresses(), "",
        "Addresses of the node on which NodePorts answer: the primary one of each family, or those in a "
        "network of their family (a family without any has all). Unset: every address.",
    )  # fmt: skip
    localhost_nodeports: bool = setting(
        "localhost-nodeports", _SWITCH, True, "true",
        "NodePorts answer the node itself on loopback addresses too, unless nodeport-addresses leaves "
        "these out; kube-proxy's iptables-localhost-nodeports.",
    )  # fmt: skip
    detect_local_mode: str = setting(
        "detect-local-mode", ("word", parse_choice(*_DETECTORS)), _DETECTORS[0], _DETECTORS[0],
        "How pods are told from the outside: by the interface that their packets come from, by "
        "cluster-cidr, by the node's podCIDRs, or not at all. As kube-proxy's.", choices=_DETECTORS,
    )  # fmt: skip
    cluster_cidr: tuple[Cidr, ...] = setting(
        "cluster-cidr", ("networks, with commas; of each family the first counts", parse_cidrs), (), "",
        "Pods' network for detect-local-mode: ClusterCIDR. Unset: as cluster-pool-ipv4-cidr and -ipv6-.",
    )  # fmt: skip
    enable_service_ping: bool = setting(
        "enable-service-ping", _SWITCH, False, "false", "Service addresses answer pings; our own key.",
    )  # fmt: skip
    masquerade_all: bool = setting(
        "masquerade-all", _SWITCH, False, "false",
        "Clients of ClusterIPs are hidden behind the node's address, pods too.",
    )  # fmt: skip
    service_cidrs: tuple[Cidr, ...] = setting(
        "service-cidrs", ("at most 4 networks, with commas", parse_networks), (), "",
        "Where ClusterIPs come from: what no service has there is dropped.",
    )  # fmt: skip
    service_no_backend_response: str = setting(
        "service-no-backend-response", ("word", parse_choice("reject", "drop")), "reject", "reject",
        "What clients of a service without endpoints get: port unreachable (a refused connection), or "
        "nothing.", choices=("reject", "drop"),
    )  # fmt: skip
    bpf_lb_source_range_all_types: bool = setting(
        "bpf-lb-source-range-all-types", _SWITCH, False, "false",
        "loadBalancerSourceRanges hold for NodePorts and external addresses of the service too, not only "
        "for the load balancer's.",
    )  # fmt: skip
    node_port_range: tuple[int, int] = setting(
        "node-port-range", ("first,last", parse_port_range), (30000, 32767), "30000,32767",
        "Ports that the API server gives to NodePorts; node ports outside of the range are served too.",
    )  # fmt: skip
    node_port_nat_range_ext: tuple[int, int] | None = setting(
        "node-port-nat-range-ext", ("first,last", parse_nat_range), None, "",
        "More source ports for clients whose own port is taken, of services with backends on other nodes; "
        "above 1023 and clear of node-port-range. Without it, those above the node's ephemeral ports.",
    )  # fmt: skip
    k8s_service_proxy_name: str = setting(
        "k8s-service-proxy-name", ("name", parse_text), "", "",
        "Take only services whose label service.kubernetes.io/service-proxy-name has this value. "
        "Unset: only those without the label.",
    )  # fmt: skip
    k8s_api_server_urls: tuple[str, ...] = setting(
        "k8s-api-server-urls", ("URLs, with commas", parse_words), (), "",
        "API servers, the next one when one fails, instead of the kubeconfig's or the one of "
        "KUBERNETES_SERVICE_HOST. Never the address of a service.",
    )  # fmt: skip
    k8s_heartbeat_timeout: int = setting(
        "k8s-heartbeat-timeout", _DURATION, 30 * NS_PER_S, "30s",
        "An API server of which nothing was heard for so long is asked for a sign of life, and left if "
        "there is none.",
    )  # fmt: skip
    agent_not_ready_taint_key: str = setting(
        "agent-not-ready-taint-key", ("name", parse_text),
        "node.kubypass.io/agent-not-ready", "node.kubypass.io/agent-not-ready",
        "Taint that is taken off the node once everything is in place. Cilium's default is another name.",
    )  # fmt: skip
    kube_proxy_replacement_healthz_bind_address: tuple[Address, int] | None = setting(
        "kube-proxy-replacement-healthz-bind-address", _BIND_ADDRESS,
        (UNSPECIFIED[4], 10256), "0.0.0.0:10256",
        "/healthz and /livez as kube-proxy's, for load balancers. 0.0.0.0 is every address, IPv6 too. "
        "Cilium's default is off.",
    )  # fmt: skip
    metrics_bind_address: tuple[Address, int] | None = setting(
        "metrics-bind-address", _BIND_ADDRESS,
        (parse_address("127.0.0.1"), 10249), "127.0.0.1:10249",
        "/metrics, /proxyMode and /healthz, as kube-proxy's; not one of Cilium's keys.",
    )  # fmt: skip
    agent_health_port: int = setting(
        "agent-health-port", ("port; 0: off", parse_size(0, 65535)), 9879, "9879",
        "On 127.0.0.1, for the kubelet's probes: /healthz answers 200 after the first complete sync, while changes "
        "are applied in time; /livez before it too.",
    )  # fmt: skip
    bpf_lb_map_max: int = setting(
        "bpf-lb-map-max", _SIZE, 65536, "65536",
        "Size of the service maps for which there is no setting of its own.",
    )  # fmt: skip
    bpf_lb_service_map_max: int = setting(
        "bpf-lb-service-map-max", _SERVICE_SIZE, 65536, "65536", "Size of `services`: frontends.",
    )  # fmt: skip
    bpf_lb_service_backend_map_max: int = setting(
        "bpf-lb-service-backend-map-max", _SERVICE_SIZE, 262144, "262144",
        "Size of `backends` and `slots`.",
    )  # fmt: skip
    bpf_ct_global_tcp_max: int = setting(
        "bpf-ct-global-tcp-max", _SIZE, 524288, "524288",
        "Size of `flows`: two entries a connection, of every protocol.",
    )  # fmt: skip
    bpf_ct_global_any_max: int = setting(
        "bpf-ct-global-any-max", _SIZE, 262144, "262144", "Flows of other protocols than TCP.",
        effect="no effect: `flows` is one map for all protocols, sized by bpf-ct-global-tcp-max",
    )  # fmt: skip
    bpf_sock_rev_map_max: int = setting(
        "bpf-sock-rev-map-max", _SIZE, 262144, "262144",
        "Size of `socket_peers`: connected sockets whose service is remembered.",
    )  # fmt: skip
    bpf_fragments_map_max: int = setting(
        "bpf-fragments-map-max", _SIZE, 8192, "8192", "Size of `fragments`: datagrams in pieces."
    )
    bpf_ct_timeout_regular_tcp: int = setting(
        "bpf-ct-timeout-regular-tcp", _DURATION, 8000 * NS_PER_S, "8000s",
        "An idle TCP connection is forgotten.",
    )  # fmt: skip
    bpf_ct_timeout_regular_tcp_syn: int = setting(
        "bpf-ct-timeout-regular-tcp-syn", _DURATION, 60 * NS_PER_S, "60s",
        "A TCP connection that was not answered is forgotten.",
    )  # fmt: skip
    bpf_ct_timeout_regular_tcp_fin: int = setting(
        "bpf-ct-timeout-regular-tcp-fin", _DURATION, 10 * NS_PER_S, "10s",
        "A closed TCP connection is forgotten.",
    )  # fmt: skip
    bpf_ct_timeout_regular_any: int = setting(
        "bpf-ct-timeout-regular-any", _DURATION, 60 * NS_PER_S, "60s",
        "A UDP or SCTP flow is forgotten.",
    )  # fmt: skip

    @property
    def external_services(self) -> bool:
        """Whether addresses for clients outside are served: externalIPs, load balancers'."""
        return self.kube_proxy_replacement not in {"false", "disabled"}

    @property
    def node_port(self) -> bool:
        """Whether NodePorts are served."""
        if self.kube_proxy_replacement == "partial":
            return self.enable_node_port
        return self.external_services

    @property
    def host_port(self) -> bool:
        """Whether ports of pods on their node are served."""
        if self.kube_proxy_replacement == "partial":
            return self.enable_host_port
        return self.external_services

    @property
    def socket_lb(self) -> bool:
        """Whether sockets are load balanced at all."""
        return self.external_services if self.bpf_lb_sock is None else self.bpf_lb_sock

    @property
    def socket_lb_pods(self) -> bool:
        """Whether pods' sockets are."""
        return self.socket_lb and not self.bpf_lb_sock_hostns_only

    def local_networks(self) -> tuple[Cidr, ...]:
        """Where pods are, for detect-local-mode ClusterCIDR: the first network of each family."""
        pools = self.cluster_pool_ipv4_cidr + self.cluster_pool_ipv6_cidr
        found = self.cluster_cidr or pools
        return tuple({cidr.family: cidr for cidr in reversed(found)}.values())

    def node_ports_answer(self, address: Address, primary: Collection[Address]) -> bool:
        """Whether NodePorts answer on this address of the node, whose `primary` ones are these, or on loopback."""
        if not is_loopback(address):
            return self.nodeport_addresses.selects(address, primary)
        return self.localhost_nodeports and self.nodeport_addresses.selects(
            LOOPBACK[family(address)], ()
        )

    def has_family(self, family: Family) -> bool:
        """Whether the family is switched on."""
        return self.enable_ipv4 if family == 4 else self.enable_ipv6

    def pod_cidrs(self) -> dict[str, tuple[Cidr, ...]]:
        """Pod networks by the key that gives them."""
        return {
            "cluster-pool-ipv4-cidr": self.cluster_pool_ipv4_cidr,
            "cluster-pool-ipv6-cidr": self.cluster_pool_ipv6_cidr,
        }


def _alias(name: str, target: Key) -> Key:
    return dataclasses.replace(target, name=name, alias_of=target.name)


_OWN = tuple(
    dataclasses.replace(found.metadata["key"], field=found.name)
    for found in dataclasses.fields(Settings)
)
_BY_NAME = {key.name: key for key in _OWN}

KEYS: Final[tuple[Key, ...]] = (
    *_OWN,
    _alias("native-routing-cidr", _BY_NAME["ipv4-native-routing-cidr"]),
    _alias("enable-host-reachable-services", _BY_NAME["bpf-lb-sock"]),
)
"""In the order of the document; aliases at the end."""
