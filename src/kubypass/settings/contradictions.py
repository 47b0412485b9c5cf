# SPDX-License-Identifier: Apache-2.0
"""Finds settings that contradict each other. Pure: it knows nothing of the node.

A contradiction that leaves nothing to run is `wrong`: the agent does not start. `doubtful` settings do what they say,
and something suffers from it; `ignored` ones are without effect beside another setting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Final, NamedTuple

from kubypass.model.address import UNSPECIFIED, parse_address
from kubypass.model.cidr import Cidr, parse_cidr
from kubypass.settings.finding import Level
from kubypass.settings.parse import FIRST_NAT_PORT

if TYPE_CHECKING:
    from kubypass.model.address import AddressPort
    from kubypass.settings.settings import Settings

_HEALTHZ, _METRICS = "kube-proxy-replacement-healthz-bind-address", "metrics-bind-address"
_AGENT_HEALTH, _RANGE, _EXTRA = "agent-health-port", "node-port-range", "node-port-nat-range-ext"
_REPLACEMENT, _SOCK, _HOST_ONLY = "kube-proxy-replacement", "bpf-lb-sock", "bpf-lb-sock-hostns-only"
_DIRECT, _MODE, _CLUSTER_CIDR = "auto-direct-node-routes", "detect-local-mode", "cluster-cidr"
_MIN_OTHER_PORTS: Final = 4096
_LAST_PORT: Final = 65535
_MIN_IPV6_MTU: Final = 1280
_UNUSABLE: Final = tuple(map(parse_cidr, ("127.0.0.0/8", "224.0.0.0/4", "::1/128", "ff00::/8")))


class Contradiction(NamedTuple):
    """Keys whose values do not fit together."""

    keys: tuple[str, ...]
    level: Level
    message: str


def contradictions(settings: Settings) -> Iterator[Contradiction]:
    """Yield what contradicts what."""
    for rule in _RULES:
        yield from rule(settings)


def _families(settings: Settings) -> Iterator[Contradiction]:
    network = settings.network
    if not (network.ipv4 or network.ipv6):
        message = "both families are off, so there is nothing to serve; switch one on"
        yield Contradiction(("enable-ipv4", "enable-ipv6"), "wrong", message)
    for key, cidrs in _networks(settings).items():
        for version in (4, 6):
            of_it = [cidr for cidr in cidrs if cidr.family == version]
            if of_it and not network.has_family(version):
                message = f"{of_it[0]} is without effect: enable-ipv{version} is false"
                yield Contradiction((key,), "ignored", message)
    if network.ipv6 and 0 < settings.pods.mtu < _MIN_IPV6_MTU:
        message = f"IPv6 needs {_MIN_IPV6_MTU} bytes: pods have no IPv6 addresses; raise mtu, or switch enable-ipv6 off"
        yield Contradiction(("mtu",), "doubtful", message)


def _networks(settings: Settings) -> dict[str, tuple[Cidr, ...]]:
    """Networks by the key that gives them."""
    routing = settings.routing
    native = {"ipv4-native-routing-cidr": routing.ipv4_native_cidr,
              "ipv6-native-routing-cidr": routing.ipv6_native_cidr}  # fmt: skip
    return {
        "service-cidrs": settings.services.cidrs,
        **settings.pods.pools(),
        _CLUSTER_CIDR: settings.pods.cluster_cidrs,
        "nodeport-addresses": settings.node_ports.addresses.cidrs,
        **{key: (cidr,) for key, cidr in native.items() if cidr is not None},
    }


def _overlaps(settings: Settings) -> Iterator[Contradiction]:
    pods = {**settings.pods.pools(), _CLUSTER_CIDR: settings.pods.cluster_cidrs}
    for key, cidrs in pods.items():
        for pod, service in ((p, s) for p in cidrs for s in settings.services.cidrs):
            if pod.family == service.family and pod.overlaps(service):
                message = f"the pods' network {pod} ({key}) and the services' network {service} (service-cidrs) "
                message += "overlap; give each its own"
                level: Level = "doubtful" if key == _CLUSTER_CIDR else "wrong"  # it may span both
                yield Contradiction((key, "service-cidrs"), level, message)
    for key, cidrs in {**pods, "service-cidrs": settings.services.cidrs}.items():
        for cidr, other in ((c, u) for c in cidrs for u in _UNUSABLE):
            if cidr.family == other.family and cidr.overlaps(other):
                message = (
                    f"{cidr} has addresses of {other}, which are nobody's; give the network itself"
                )
                yield Contradiction((key,), "wrong", message)


def _servers(settings: Settings) -> Iterator[Contradiction]:
    """Two servers at one address, and servers on ports that a Service can have."""
    servers = _bound(settings)
    for (key, one), (other, two) in combinations(servers.items(), 2):
        if one[1] == two[1] and _same_address(one, two):
            message = f"{key} and {other} are both on port {one[1]}; give one of them another"
            yield Contradiction((key, other), "wrong", message)
    first, last = settings.node_ports.port_range
    for key, (_, port) in servers.items():
        if settings.services.with_node_ports and first <= port <= last:
            message = f"port {port} of {key} is in node-port-range, {first},{last}: a Service with it as its NodePort "
            message += "hides this server; move one of them"
            yield Contradiction((key, _RANGE), "doubtful", message)


def _bound(settings: Settings) -> dict[str, AddressPort]:
    ports = settings.http_ports
    agent = (parse_address("127.0.0.1"), ports.agent_health) if ports.agent_health else None
    found = {_HEALTHZ: ports.proxy_health, _METRICS: ports.metrics, _AGENT_HEALTH: agent}
    return {key: where for key, where in found.items() if where is not None}


def _same_address(one: AddressPort, two: AddressPort) -> bool:
    """Whether both cannot listen on one port; a server on every address has those of IPv6 too."""
    return one[0] == two[0] or not {one[0], two[0]}.isdisjoint(UNSPECIFIED.values())


def _port_ranges(settings: Settings) -> Iterator[Contradiction]:
    first, last = settings.node_ports.port_range
    left = max(0, first - FIRST_NAT_PORT) + max(0, _LAST_PORT - max(last, FIRST_NAT_PORT - 1))
    if left < _MIN_OTHER_PORTS:
        message = (
            f"leaves {left} of the ports from {FIRST_NAT_PORT} on, and at least {_MIN_OTHER_PORTS} are needed: the "
            "node's connections and masquerading take their ports from them; expected the API server's range, such as "
            '"30000,32767"'
        )  # fmt: skip
        yield Contradiction((_RANGE,), "wrong", message)
    extra = settings.masquerade.extra_ports
    if extra is not None and extra[1] >= first and extra[0] <= last:
        message = f"expected ports from {FIRST_NAT_PORT} to {_LAST_PORT} outside of node-port-range, {first},{last}"
        yield Contradiction((_EXTRA,), "wrong", message)


def _unused(settings: Settings) -> Iterator[Contradiction]:
    """Keys that do nothing beside others."""
    services, sockets = settings.services, settings.sockets
    mode = services.kube_proxy_replacement
    if mode != "partial":
        for key, wanted, served in (
            ("enable-node-port", services.enable_node_port, services.with_node_ports),
            ("enable-host-port", services.enable_host_port, services.with_host_ports),
        ):
            if wanted != served:
                message = f'no effect: kube-proxy-replacement is "{mode}"; this key counts with "partial" only'
                yield Contradiction((key,), "ignored", message)
    if sockets.host_only and not settings.socket_lb:
        message = "no effect: no sockets are load balanced (bpf-lb-sock, kube-proxy-replacement)"
        yield Contradiction((_HOST_ONLY,), "ignored", message)
    if settings.routing.skip_unreachable_nodes and not settings.routing.direct_node_routes:
        message = "no effect: auto-direct-node-routes is false, so no routes are made at all"
        yield Contradiction(("direct-routing-skip-unreachable",), "ignored", message)
    if settings.routing.no_conntrack and not settings.routing.legacy_host:
        message = "no effect is needed: enable-host-legacy-routing is false, so packets of pods do not pass netfilter, "
        message += "which tracks none of their connections"
        yield Contradiction(("install-no-conntrack-iptables-rules",), "ignored", message)
    if settings.acceleration != settings.services.acceleration:
        message = "no effect: enable-host-legacy-routing is true, and what XDP sends on would pass no netfilter rule"
        yield Contradiction(("bpf-lb-acceleration",), "ignored", message)
    if settings.routing.legacy_host and settings.dsr.wanted:
        message = "in DSR mode (bpf-lb-mode), what a node sends to a backend on another one passes no netfilter rule "
        message += "of its own: its stack would see one direction only. The backend's node sees both in FORWARD; use "
        message += "snat where every node's rules count"
        yield Contradiction(("enable-host-legacy-routing",), "doubtful", message)
    if settings.pods.detect_local_mode == "ClusterCIDR" and not settings.pods.local_networks():
        message = "no network is given (cluster-cidr, cluster-pool-ipv4-cidr, cluster-pool-ipv6-cidr): no pod is told "
        message += "from clients outside; give one, or leave the mode out"
        yield Contradiction((_MODE,), "doubtful", message)


def _timeouts(settings: Settings) -> Iterator[Contradiction]:
    conntrack = settings.conntrack
    for key, short in (
        ("bpf-ct-timeout-regular-tcp-syn", conntrack.tcp_syn_timeout_ns),
        ("bpf-ct-timeout-regular-tcp-fin", conntrack.tcp_fin_timeout_ns),
    ):
        if short > conntrack.tcp_timeout_ns:
            message = "is longer than bpf-ct-timeout-regular-tcp: half a connection would be remembered longer than "
            message += "a whole one; make it shorter"
            yield Contradiction((key, "bpf-ct-timeout-regular-tcp"), "doubtful", message)


_RULES: Final[tuple[Callable[[Settings], Iterator[Contradiction]], ...]] = (
    _families,
    _overlaps,
    _servers,
    _port_ranges,
    _unused,
    _timeouts,
)
