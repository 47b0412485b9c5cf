# SPDX-License-Identifier: Apache-2.0
"""The lines of the status on host routing: who forwards packets of pods, and whether netfilter tracks them. Pure."""

from __future__ import annotations

from kubypass.agent.conntrack_bypass import BPF_ROUTING, NO_NETWORK
from kubypass.agent.report.option import Inputs, State

_NOT_REPLACED = (
    "the programs could not be replaced, so those of the other kind forward; the problems say why"
)
HOST_ROUTING_REASONS = (_NOT_REPLACED,)
BYPASS_REASONS = (
    BPF_ROUTING,
    NO_NETWORK,
    "rules of others need connections of pods to be tracked: …",
)


def _host(*, legacy: bool) -> str:
    return "Legacy" if legacy else "BPF"


def host_routing(inputs: Inputs) -> State:
    """What forwards packets of pods: BPF programs, or the node's stack."""
    wanted = inputs.settings.routing.legacy_host
    effective = inputs.figures.legacy_host if inputs.figures.started else wanted
    details = ("netfilter sees clients and pods themselves",) if effective else ()
    return State(_host(legacy=wanted), _host(legacy=effective), _NOT_REPLACED, details)


def routing(inputs: Inputs) -> State:
    """The line has both: how pods' packets get to other nodes, and what forwards them."""
    state = host_routing(inputs)
    return State(_network(state.wanted), _network(state.effective), state.why)


def _network(host: str) -> str:
    return f"Network: Native   Host: {host}"


def conntrack_bypass(inputs: Inputs) -> State:
    """Whether connection tracking skips packets of pods, by which means, and why not."""
    figures, wanted = inputs.figures, inputs.settings.routing.no_conntrack
    means, why = figures.conntrack_bypass
    if not wanted and not means:
        return State("Disabled", "Disabled")
    words = "Enabled" if wanted else "Disabled"
    effective = "Enabled" if means else "Disabled"
    if not figures.started:
        return State(words, words)
    return State(words, effective, why, (means,) if means else (), {"means": means})
