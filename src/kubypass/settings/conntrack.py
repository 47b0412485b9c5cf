# SPDX-License-Identifier: Apache-2.0
"""Settings of connection tracking: how long an idle flow is remembered."""

from __future__ import annotations

from dataclasses import dataclass

from kubypass.settings.key import setting
from kubypass.settings.kinds import FLOW_TIMEOUT
from kubypass.settings.parse import NS_PER_S


@dataclass(frozen=True, slots=True)
class ConntrackSettings:
    """How long an idle flow is remembered, in nanoseconds."""

    tcp_timeout_ns: int = setting(
        "bpf-ct-timeout-regular-tcp", FLOW_TIMEOUT, 8000 * NS_PER_S, "8000s",
        "An idle TCP connection is forgotten after this time.",
    )  # fmt: skip
    tcp_syn_timeout_ns: int = setting(
        "bpf-ct-timeout-regular-tcp-syn", FLOW_TIMEOUT, 60 * NS_PER_S, "60s",
        "A TCP connection that was not answered is forgotten after this time.",
    )  # fmt: skip
    tcp_fin_timeout_ns: int = setting(
        "bpf-ct-timeout-regular-tcp-fin", FLOW_TIMEOUT, 10 * NS_PER_S, "10s",
        "A closed TCP connection is forgotten after this time.",
    )  # fmt: skip
    any_timeout_ns: int = setting(
        "bpf-ct-timeout-regular-any", FLOW_TIMEOUT, 60 * NS_PER_S, "60s",
        "An idle UDP or SCTP flow is forgotten after this time.",
    )  # fmt: skip
