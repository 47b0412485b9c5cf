# SPDX-License-Identifier: Apache-2.0
"""What the agent tells of its work on sockets: balanced, closed, and kept off NodePorts."""

from __future__ import annotations

from kubypass.agent.agent import Agent
from kubypass.agent.stale_sockets import protocols_to_close
from kubypass.api.metric import Metric

_COOKIE = "the node's sockets are taken to be those of the initial network namespace (Linux 5.14 would tell)"
_PACKETS = "pods are translated packet by packet; the node's own sockets have no other hook"
_NO_DESTROY = (
    "this kernel closes no sockets of others (CONFIG_INET_DIAG_DESTROY): a connected UDP socket keeps "
    "a backend that is gone until it connects again"
)
_NO_RETVAL = "programs of this kernel cannot choose the error (Linux 5.18 lets them)"
Feature = dict[str, object]


def feature(wanted: str, effective: str, why: str = "") -> Feature:
    """One line of the status."""
    return {"wanted": wanted, "effective": effective, "why": why if wanted != effective else ""}


def socket_lb(agent: Agent) -> Feature:
    """Whose sockets are given backends."""
    settings = agent.settings
    if settings.socket_lb_pods:
        assumed = "" if agent.features.netns_cookie else _COOKIE
        excluded = agent.network.excluded if agent.healthy else 0
        return {**feature("Enabled", "Enabled", assumed), "excluded_pods": excluded}
    if settings.services.with_external or settings.socket_lb:
        wanted = "Hostns-only" if settings.sockets.host_only else "Disabled"
        return feature(wanted, "Hostns-only", _PACKETS)
    return feature("Disabled", "Disabled")


def socket_termination(agent: Agent) -> Feature:
    """Which sockets are closed when their backend goes, and how many were."""
    settings, closed = agent.settings, {}
    if agent.healthy:
        closed = {protocol.name: number for protocol, number in dict(agent.stale.closed).items()}
    wanted, effective = (
        "+".join(protocol.name for protocol in protocols_to_close(settings, possible=possible))
        for possible in (True, agent.features.close_sockets)
    )
    pods = settings.sockets.close_in_pods
    whose = " of the node and of pods" if pods else " of the node"
    texts = [f"{text}{whose}" if text else "Disabled" for text in (wanted, effective)]
    return {**feature(texts[0], texts[1], _NO_DESTROY), "closed": closed}


def bind_protection(agent: Agent) -> Feature:
    """What processes get that bind a NodePort."""
    settings = agent.settings
    if not (settings.services.with_node_ports and settings.node_ports.bind_protection):
        return feature("Disabled", "Disabled")
    effective = "EADDRINUSE" if agent.features.refuse_connect else "EPERM"
    return feature("EADDRINUSE", effective, _NO_RETVAL)


def socket_metrics(agent: Agent) -> list[Metric]:
    """Closed sockets by protocol."""
    if not agent.healthy:
        return []
    text = "Sockets closed because their backend was gone."
    samples = tuple(
        ("", (("protocol", protocol.name.lower()),), float(agent.stale.closed[protocol]))
        for protocol in agent.stale.protocols
    )
    return [Metric("kubypass_sockets_closed_total", "counter", text, samples)]
