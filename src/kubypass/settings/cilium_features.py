# SPDX-License-Identifier: Apache-2.0
"""What kubypass lacks of Cilium, and what it always does, by the keys that ask for it.

A key that asks for something that is not done is a warning: an operator who writes `enable-policy: always` must not
believe that policies are enforced. Keys of CILIUM_KEYS that are not here tune Cilium's inside, and lose nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from kubypass.settings.parse import parse_bool


class Feature(NamedTuple):
    """One feature, and the values of its keys that do not ask for it."""

    keys: str
    """Keys, separated by blanks."""
    lost: str
    """What an operator loses who asks for it."""
    off: frozenset[str] = frozenset({"", "false"})
    """Values in lower case that ask for nothing; `false` stands for each of Go's words for it."""


_NO_POLICY = (
    "kubypass enforces no NetworkPolicy, neither Kubernetes' nor Cilium's: every pod can connect to every other; "
    "filter in the applications, or run a network that enforces policies"
)
_NO_ENCRYPTION = (
    "kubypass encrypts nothing: packets between nodes are sent as the pods made them; encrypt in the applications, "
    "or below the nodes' network"
)
_NO_AUTHENTICATION = (
    "kubypass authenticates no connection of pods (no mTLS): use a mesh, or TLS in applications"
)
_NO_PROXY = "kubypass has no proxy for layer 7: HTTP, DNS and TLS rules are not applied, and there is no Envoy"
_NO_HUBBLE = "kubypass has no Hubble: use kubypass status, trace and metrics"
_ZERO: Final = frozenset({"", "0"})
_EMPTY: Final = frozenset({""})

FEATURES: Final = (
    # Security
    Feature("enable-policy", _NO_POLICY, frozenset({"", "never"})),
    Feature(
        "enable-k8s-networkpolicy enable-cilium-network-policy enable-cilium-clusterwide-network-policy", _NO_POLICY,
    ),
    Feature(
        "enable-endpoint-lockdown-on-policy-overflow policy-audit-mode enable-icmp-rules policy-cidr-match-mode "
        "policy-default-local-cluster allow-localhost", "kubypass enforces no NetworkPolicy at all",
        frozenset({"", "false", "auto", "always"}),
    ),
    Feature("enable-host-firewall", "kubypass has no host firewall: whoever reaches the node reaches every port on "
            "which a process of it listens; filter with netfilter on the node"),
    Feature("enable-xdp-prefilter", "kubypass drops no packet by a list of networks: filter before the node"),
    Feature(
        "enable-wireguard enable-ipsec encrypt-node enable-encryption-strict-mode enable-ztunnel "
        "enable-ipsec-encrypted-overlay", _NO_ENCRYPTION,
    ),
    Feature("encryption-strict-mode-cidr encrypt-interface ipsec-key-file", _NO_ENCRYPTION, _EMPTY),
    Feature("mesh-auth-enabled", _NO_AUTHENTICATION),
    Feature("mesh-auth-mutual-listener-port", _NO_AUTHENTICATION, _ZERO),
    Feature("mesh-auth-spire-admin-socket mesh-auth-spire-agent-socket mesh-auth-spire-server-address",
            _NO_AUTHENTICATION, _EMPTY),
    Feature("enable-l7-proxy enable-envoy-config enable-bpf-tproxy loadbalancer-l7 external-envoy-proxy", _NO_PROXY,
            frozenset({"", "false", "disabled"})),
    Feature("tofqdns-proxy-port dnsproxy-enable-transparent-mode", _NO_PROXY, frozenset({"", "false", "0"})),
    Feature("lrp-address-matcher-cidrs", "kubypass has no local redirects: no network is excepted", _EMPTY),
    # Addresses, and the way out of the cluster
    Feature("enable-ipv4-egress-gateway enable-egress-gateway", "kubypass has no egress gateway: pods leave by "
            "their own node"),
    Feature("egress-masquerade-interfaces", "kubypass masquerades on every uplink: `devices` says which these are",
            _EMPTY),
    Feature("enable-bgp-control-plane bgp-announce-lb-ip bgp-announce-pod-cidr", "kubypass speaks no BGP: no address "
            "of services or pods is announced"),
    Feature("enable-l2-announcements enable-l2-pod-announcements", "kubypass announces no address of services: no "
            "node answers ARP or neighbour solicitations for it; use MetalLB or routes"),
    Feature("enable-lb-ipam enable-node-ipam default-lb-service-ipam", "kubypass gives no addresses to services of "
            "type LoadBalancer: use MetalLB or a cloud provider", frozenset({"", "false", "none"})),
    Feature("enable-nat46x64-gateway", "kubypass translates between no families"),
    Feature("enable-local-redirect-policy", "kubypass has no local redirects: CiliumLocalRedirectPolicies do nothing"),
    Feature("enable-srv6 enable-vtep enable-multicast multicast-enabled",
            "kubypass has neither SRv6 nor VTEP nor multicast"),
    Feature("enable-ingress-controller enable-gateway-api", "kubypass has no ingress controller and no Gateway API: "
            "run one as pods"),
    Feature("cluster-id clustermesh-config", "kubypass has no cluster mesh: services have the backends of their own "
            "cluster", _ZERO),
    Feature("clustermesh-enable-endpoint-sync clustermesh-enable-mcs-api", "kubypass has no cluster mesh: services "
            "have the backends of their own cluster"),
    # Load balancing
    # Datapath
    Feature("datapath-mode", "pods have veth devices", frozenset({"", "veth"})),
    Feature("enable-bandwidth-manager enable-bbr enable-bbr-hostns-only", "kubypass shapes no traffic and sets no "
            "congestion control: the annotations kubernetes.io/egress-bandwidth and ingress-bandwidth do nothing"),
    Feature("enable-ipv4-big-tcp enable-ipv6-big-tcp enable-tunnel-big-tcp", "kubypass leaves the sizes of "
            "segments as they are"),
    Feature("force-device-detection", "where `devices` is given, no other device takes part"),
    Feature("cni-chaining-mode", "kubypass chains no other plugin", frozenset({"", "none"})),
    Feature("bpf-map-dynamic-size-ratio", "maps have the sizes that their keys say, not a part of the memory",
            frozenset({"", "0", "0.0"})),
    Feature("enable-hubble enable-hubble-open-metrics enable-recorder", _NO_HUBBLE),
    Feature("hubble-listen-address hubble-metrics hubble-metrics-server", _NO_HUBBLE, _EMPTY),
    Feature("prometheus-serve-addr", "metrics are served at metrics-bind-address", _EMPTY),
)  # fmt: skip
"""What kubypass does not do."""

ALWAYS: Final = {
    "enable-session-affinity": "sessionAffinity is always served",
    "enable-external-ips": "external IPs are served wherever kube-proxy-replacement is on",
    "enable-svc-source-range-check": "loadBalancerSourceRanges always hold",
    "enable-health-check-nodeport": "health check node ports are always served",
    "enable-ipv4-fragment-tracking": "fragments are always followed",
    "enable-k8s-endpoint-slice": "EndpointSlices are what is read",
    "enable-runtime-device-detection": "devices, addresses and routes that come and go are followed",
    "enable-k8s-terminating-endpoint": "terminating endpoints are always told from others",
}
"""Keys of what kubypass always does, each with a sentence."""


def _by_key() -> Iterator[tuple[str, Feature]]:
    for feature in FEATURES:
        for key in feature.keys.split():
            yield key, feature


_BY_KEY: Final = dict(_by_key())
FEATURE_KEYS: Final = frozenset(_BY_KEY) | frozenset(ALWAYS)


def lost_by(key: str, text: str) -> str:
    """Return what an operator loses who sets this key of Cilium to this text; empty if nothing."""
    off = _is_off(text)
    if key in ALWAYS:
        return f"no effect: {ALWAYS[key]}, and cannot be switched off" if off else ""
    feature = _BY_KEY.get(key)
    if feature is None or text.lower() in feature.off or (off and "false" in feature.off):
        return ""
    return f"no effect: {feature.lost}"


def _is_off(text: str) -> bool:
    try:
        return not parse_bool(text)
    except ValueError:
        return False
