# SPDX-License-Identifier: Apache-2.0
"""One table of all options: title, what is wanted, what is effective, and why the two differ. Pure.

The API sends these rows, `kubypass status` prints them, and docs/status.md is made of them (option_doc.py). Titles are
Cilium's where Cilium has one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from kubypass.agent.report.dsr import NO_PEER, forwarding_mode
from kubypass.agent.report.host_routing import (
    BYPASS_REASONS,
    HOST_ROUTING_REASONS,
    conntrack_bypass,
    host_routing,
    routing,
)
from kubypass.agent.report.option import Inputs, Option, State
from kubypass.agent.stale_sockets import protocols_to_close
from kubypass.kernel.features import REFUSE_CONNECT
from kubypass.kernel.netlink import Link
from kubypass.model.address import format_address
from kubypass.model.printable import printable
from kubypass.node.facts import NodeState
from kubypass.plan.masquerade import NO_ADDRESS, NO_POD_NETWORK, wanted_families
from kubypass.settings.settings import Settings

_PACKETS = "pods are translated packet by packet; the node's own sockets have no other hook"
_NO_DESTROY = (
    "this kernel closes no sockets of others (CONFIG_INET_DIAG_DESTROY): a connected UDP socket keeps "
    "a backend that is gone until it connects again"
)
_PAST_NETFILTER = "host routing is Legacy: what XDP sends on would pass no netfilter rule"
_NO_ROOM = "the map maglev is full: raise bpf-lb-maglev-map-max and restart the agent"
_NO_RETVAL = (
    f"programs of this kernel cannot choose the error (Linux {REFUSE_CONNECT.since} lets them)"
)
_NOT_ALL = "not every uplink can, as is said of each; their packets are balanced in tc"
_NONE = "no uplink can, as is said of each; packets are balanced in tc"


def _always(text: str) -> Callable[[Inputs], State]:
    return lambda _: State(text, text)


def _switch(is_on: Callable[[Settings], bool]) -> Callable[[Inputs], State]:
    return lambda inputs: _same("Enabled" if is_on(inputs.settings) else "Disabled")


def _same(text: str) -> State:
    return State(text, text)


def _device(node: NodeState, link: Link) -> str:
    """A device that takes part, with its addresses; pods' packets to other nodes leave by the direct ones."""
    found = node.device_addresses.get(link.index, ())
    words = [printable(link.name), *map(format_address, found)]
    return " ".join(words) + (" (Direct Routing)" if link in node.direct else "")


def _kube_proxy_replacement(inputs: Inputs) -> State:
    word = inputs.settings.services.kube_proxy_replacement
    replaced = {"true": "True", "false": "False"}.get(word, word.capitalize())
    devices = [_device(inputs.node, link) for link in inputs.node.uplinks]
    return State(replaced, replaced, details=tuple(devices), fields={"devices": devices})


def _socket_lb(inputs: Inputs) -> State:
    settings = inputs.settings
    if settings.socket_lb_pods:
        excluded = inputs.figures.excluded_pods
        details = (f"{excluded} pods packet by packet",) if excluded else ()
        return State("Enabled", "Enabled", details=details, fields={"excluded_pods": excluded})
    if settings.services.with_external or settings.socket_lb:
        wanted = "Hostns-only" if settings.sockets.host_only else "Disabled"
        return State(wanted, "Hostns-only", _PACKETS)
    return _same("Disabled")


def _source_verification(inputs: Inputs) -> State:
    if not inputs.settings.pods.verify_sources:
        return _same("Disabled")
    exempt = inputs.figures.foreign_source_pods
    details = (f"{exempt} pods may send from any address",) if exempt else ()
    return State("Enabled", "Enabled", details=details, fields={"exempt_pods": exempt})


def _socket_termination(inputs: Inputs) -> State:
    settings = inputs.settings
    whose = " of the node and of pods" if settings.sockets.close_in_pods else " of the node"
    wanted, effective = (
        "+".join(protocol.name for protocol in protocols_to_close(settings, possible=possible))
        for possible in (True, inputs.features.close_sockets)
    )
    closed = {protocol.name: n for protocol, n in inputs.figures.sockets_closed.items() if n}
    return State(
        f"{wanted}{whose}" if wanted else "Disabled",
        f"{effective}{whose}" if effective else "Disabled",
        _NO_DESTROY,
        tuple(f"{number} {name} closed" for name, number in closed.items()),
        {"closed": closed},
    )


def _bind_protection(inputs: Inputs) -> State:
    settings = inputs.settings
    if not (settings.services.with_node_ports and settings.node_ports.bind_protection):
        return _same("Disabled")
    effective = "EADDRINUSE" if inputs.features.refuse_connect else "EPERM"
    return State("EADDRINUSE", effective, _NO_RETVAL)


def _masquerading(inputs: Inputs) -> State:
    """The line says, as Cilium's, how it is done, by which devices, except where, and in which families."""
    settings, figures = inputs.settings, inputs.figures
    wanted = wanted_families(settings)
    effective = figures.masqueraded if figures.started else wanted
    if not wanted:
        return _same("Disabled")
    how = "BPF (ip-masq-agent)" if settings.masquerade.with_agent_list else "BPF"
    devices = ", ".join(printable(link.name) for link in inputs.node.uplinks)
    words = [how, f"[{devices}]", *map(str, settings.routing.native_cidrs)]
    details = (
        [f"{figures.inside} networks and addresses are reached without"] if figures.inside else []
    )
    if figures.lost_sources:
        details.append(f"{figures.lost_sources} connections ended as the node lost their address")
    return State(
        _by_family(words, wanted),
        _by_family(words, effective) if effective else "Disabled",
        figures.not_masqueraded,
        tuple(details),
        {
            "families": list(effective),
            "inside": figures.inside,
            "lost_sources": figures.lost_sources,
        },
    )


def _by_family(words: list[str], families: Collection[int]) -> str:
    on = ", ".join(f"IPv{v}: {'Enabled' if v in families else 'Disabled'}" for v in (4, 6))
    return " ".join([*words, f"[{on}]"])


def _acceleration(inputs: Inputs) -> State:
    wanted = inputs.settings.services.acceleration.title()
    if inputs.settings.acceleration != inputs.settings.services.acceleration:
        return State(wanted, "Disabled", _PAST_NETFILTER)
    devices = inputs.figures.accelerated
    lacking = [one for one in devices if one.mode is None]
    details = tuple(map(str, devices))
    fields: dict[str, object] = {
        "devices": [
            {"name": one.name, "mode": one.mode or "none", "reason": one.reason} for one in devices
        ]
    }
    if not lacking or (wanted == "Best-Effort" and len(lacking) < len(devices)):
        return State(wanted, wanted, details=details, fields=fields)
    if len(lacking) == len(devices):
        return State(wanted, "Disabled", _NONE, details, fields)
    return State(wanted, "Best-Effort", _NOT_ALL, details, fields)


def _cluster_ip(inputs: Inputs) -> State:
    external = inputs.settings.services.external_cluster_ip
    return _same("Enabled, from outside too" if external else "Enabled")


def _node_port(inputs: Inputs) -> State:
    first, last = inputs.settings.node_ports.port_range
    enabled = inputs.settings.services.with_node_ports
    return _same(f"Enabled (Range: {first}-{last})" if enabled else "Disabled")


def _backend_selection(inputs: Inputs) -> State:
    balancing, figures = inputs.settings.balancing, inputs.figures
    if not balancing.with_maglev:
        return _same("Random")
    maglev = f"Maglev (Table Size: {balancing.maglev_cells})"
    wanted = maglev if balancing.algorithm == "maglev" else f"Random, or {maglev} by annotation"
    lacking = figures.without_table
    details = [f"{figures.maglev} service ports by Maglev"] if figures.started else []
    return State(
        wanted,
        f"{wanted}, but {lacking} service ports at random" if lacking else wanted,
        _NO_ROOM,
        tuple(details),
        {"maglev_ports": figures.maglev, "without_table": lacking},
    )


OPTIONS = (
    Option(
        "KubeProxyReplacement",
        _kube_proxy_replacement,
        "How much of kube-proxy's work is done, and by which devices packets enter and leave the node.",
        ("kube-proxy-replacement", "devices"),
        field="kube_proxy_replacement",
    ),
    Option(
        "Socket LB",
        _socket_lb,
        "Whose sockets get their backend when they connect.",
        ("bpf-lb-sock", "bpf-lb-sock-hostns-only", "bpf-lb-sock-exclude-pods"),
        (_PACKETS,),
        field="socket_lb",
    ),
    Option(
        "Source IP Verification",
        _source_verification,
        "Whether pods are held to their own addresses, and how many are exempt by annotation.",
        ("enable-source-ip-verification",),
        field="source_ip_verification",
    ),
    Option(
        "Socket Termination",
        _socket_termination,
        "Which sockets are closed when their backend goes, and how many were.",
        ("bpf-lb-sock-terminate-pod-connections", "bpf-lb-sock-terminate-all-protos"),
        (_NO_DESTROY,),
        field="socket_termination",
    ),
    Option(
        "Bind Protection",
        _bind_protection,
        "The error that a process of the node gets when it listens on a NodePort.",
        ("node-port-bind-protection", "enable-node-port"),
        (_NO_RETVAL,),
        field="bind_protection",
    ),
    Option(
        "Routing",
        routing,
        "How pods' packets get to other nodes.",
        ("routing-mode",),
        field="routing",
    ),
    Option(
        "Masquerading",
        _masquerading,
        "Whether pods reach the outside with the node's address: by which devices, except where, in which families.",
        (
            "enable-ipv4-masquerade",
            "enable-ipv6-masquerade",
            "enable-bpf-masquerade",
            "enable-ip-masq-agent",
            "ipv4-native-routing-cidr",
            "ipv6-native-routing-cidr",
        ),
        (NO_POD_NETWORK, NO_ADDRESS),
        field="masquerading",
    ),
    Option(
        "Host Routing",
        host_routing,
        "Whether packets of pods avoid the node's own stack (BPF), or go through it and its netfilter rules (Legacy).",
        ("enable-host-legacy-routing",),
        HOST_ROUTING_REASONS,
        field="host_routing",
    ),
    Option(
        "Conntrack Bypass",
        conntrack_bypass,
        "Whether netfilter's connection tracking skips packets of pods, and which rules of others forbid it.",
        ("install-no-conntrack-iptables-rules",),
        BYPASS_REASONS,
        field="conntrack_bypass",
    ),
    Option(
        "BandwidthManager",
        _always("Disabled"),
        "Whether pods' bandwidth is limited.",
        field="bandwidth_manager",
    ),
    Option(
        "IPv4 BIG TCP",
        _always("Disabled"),
        "Whether the node handles IPv4 packets above 64 KiB.",
        field="ipv4_big_tcp",
    ),
    Option(
        "IPv6 BIG TCP",
        _always("Disabled"),
        "Whether the node handles IPv6 packets above 64 KiB.",
        field="ipv6_big_tcp",
    ),
    Option(
        "XDP Acceleration",
        _acceleration,
        "Whether packets to backends on other nodes are balanced in the driver: how, on each device, and why not.",
        ("bpf-lb-acceleration",),
        (_NOT_ALL, _NONE, _PAST_NETFILTER),
        field="xdp_acceleration",
    ),
    Option("Hubble", _always("Disabled"), "Whether flows can be observed.", field="hubble"),
    Option(
        "Attach Mode",
        lambda inputs: _same("TCX" if inputs.features.tcx else "Legacy TC"),
        "How programs are attached to devices.",
    ),
    Option(
        "Mode",
        forwarding_mode,
        "How clients outside reach backends on other nodes, and how many nodes take part in DSR.",
        ("bpf-lb-mode", "bpf-lb-dsr-dispatch", "bpf-lb-mode-annotation", "dsr-probe-port"),
        (NO_PEER,),
        field="forwarding_mode",
        verbose=True,
    ),
    Option(
        "Backend Selection",
        _backend_selection,
        "How external frontends select a backend for a new connection, and how many service ports do so by Maglev.",
        ("bpf-lb-algorithm", "bpf-lb-algorithm-annotation", "bpf-lb-maglev-table-size"),
        (_NO_ROOM,),
        verbose=True,
    ),
    Option(
        "Session Affinity",
        _always("Enabled"),
        "Whether a client keeps its backend where its Service asks for it.",
        verbose=True,
    ),
    Option(
        "Graceful Termination",
        _always("Enabled"),
        "Whether connections to a terminating backend go on.",
        verbose=True,
    ),
    Option(
        "Without Endpoints",
        lambda inputs: _same(inputs.settings.services.no_backend_response.capitalize()),
        "What a client of a Service without endpoints gets.",
        ("service-no-backend-response",),
        verbose=True,
    ),
    Option(
        "Local Detection",
        lambda inputs: _same(inputs.settings.pods.detect_local_mode),
        "How traffic from pods is recognised.",
        ("detect-local-mode",),
        verbose=True,
    ),
    Option(
        "Masquerade All",
        _switch(lambda settings: settings.masquerade.cluster_ip_clients),
        "Whether every connection to a ClusterIP gets the node's address.",
        ("masquerade-all",),
        verbose=True,
    ),
    Option(
        "ClusterIP",
        _cluster_ip,
        "Whether ClusterIPs are served, and to whom.",
        ("bpf-lb-external-clusterip",),
        verbose=True,
    ),
    Option(
        "NodePort",
        _node_port,
        "Whether NodePorts are served, and their range.",
        ("enable-node-port", "node-port-range"),
        verbose=True,
    ),
    Option(
        "LoadBalancer",
        _switch(lambda settings: settings.services.with_external),
        "Whether load balancers' addresses are served.",
        ("kube-proxy-replacement",),
        verbose=True,
    ),
    Option(
        "externalIPs",
        _switch(lambda settings: settings.services.with_external),
        "Whether external IPs are served.",
        ("kube-proxy-replacement",),
        verbose=True,
    ),
)


def option_rows(inputs: Inputs) -> list[tuple[Option, dict[str, object]]]:
    """Every option with its row, in the order of the table."""
    return [(option, option.row(inputs)) for option in OPTIONS]
