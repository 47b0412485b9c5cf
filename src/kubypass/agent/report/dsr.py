# SPDX-License-Identifier: Apache-2.0
"""Reports DSR: the mode that is wanted, what each other node gets, and which connections were masqueraded instead."""

from __future__ import annotations

from collections.abc import Mapping

from kubypass.agent.report.option import Inputs, State
from kubypass.api.metric import Metric

NO_PEER = "no other node takes part so far: connections are masqueraded"
_NAMES = {"snat": "SNAT", "dsr": "DSR", "hybrid": "Hybrid"}
_REFUSALS = {
    "peer": "the backend's node does not take part",
    "options": "the packet had options already",
    "clash": "the client had another connection to the backend from its port",
    "size": "the first packet would not fit with the option, and was not for routers to refuse",
    "segments": "the first packet was several datagrams joined (UDP_SEGMENT, GRO), which Geneve does not carry",
    "unanswered": "the client repeated its SYN in vain",
}


def forwarding_mode(inputs: Inputs) -> State:
    """The row `Mode`."""
    dsr, figures = inputs.settings.dsr, inputs.figures
    wanted = _NAMES[dsr.mode]
    if not dsr.wanted:
        return State(wanted, wanted)
    words = f"{wanted} (DSR Dispatch Mode: {dsr.dispatch})"
    if dsr.annotation:
        words += ", by annotation of each Service"
    direct = [peer for peer in figures.dsr.peers if peer["dispatch"] != "snat"]
    details = [_peer_words(peer) for peer in figures.dsr.peers]
    details += [
        f"{number} connections masqueraded: {_REFUSALS[why]}"
        for why, number in figures.dsr.refused.items()
        if number
    ]
    effective = words if direct or not figures.dsr.peers else "SNAT"
    fields = {"peers": list(figures.dsr.peers), "masqueraded": dict(figures.dsr.refused)}
    return State(words, effective, NO_PEER, tuple(details), fields)


def _peer_words(peer: Mapping[str, object]) -> str:
    how = (
        f"{peer['dispatch']}, MTU {peer['mtu'] or 'unknown'}"
        if not peer["why"]
        else f"snat: {peer['why']}"
    )
    return f"{peer['node']} {peer['address']} {how}"


def dsr_metrics(refused: Mapping[str, int]) -> list[Metric]:
    """Masqueraded connections by reason."""
    text = "Connections of services in DSR mode that were masqueraded, by reason."
    samples = tuple(
        ("", (("reason", why),), float(number)) for why, number in sorted(refused.items())
    )
    return [Metric("kubypass_dsr_masqueraded_total", "counter", text, samples)] if samples else []
