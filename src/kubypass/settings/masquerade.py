# SPDX-License-Identifier: Apache-2.0
"""Settings of masquerading: whose packets leave with the node's address."""

from __future__ import annotations

from dataclasses import dataclass

from kubypass.settings.key import Kind, setting
from kubypass.settings.kinds import SWITCH
from kubypass.settings.parse import parse_nat_range

_NOT_YET = "no effect yet: pods reach the outside with their own addresses"


@dataclass(frozen=True, slots=True)
class MasqueradeSettings:
    """Whose packets leave with the node's address, and with which source ports."""

    ipv4: bool = setting(
        "enable-ipv4-masquerade", SWITCH, True, "true",
        "IPv4 packets of pods to the outside leave with the node's address.", effect=_NOT_YET, ignored=bool,
    )  # fmt: skip
    ipv6: bool = setting(
        "enable-ipv6-masquerade", SWITCH, True, "true",
        "As enable-ipv4-masquerade.", effect=_NOT_YET, ignored=bool,
    )  # fmt: skip
    in_bpf: bool = setting(
        "enable-bpf-masquerade", SWITCH, False, "false",
        "Masquerades in BPF programs instead of netfilter.", effect=_NOT_YET, ignored=bool,
    )  # fmt: skip
    cluster_ip_clients: bool = setting(
        "masquerade-all", SWITCH, False, "false",
        "Masquerades every client of a ClusterIP with the node's address, pods included.",
    )  # fmt: skip
    extra_ports: tuple[int, int] | None = setting(
        "node-port-nat-range-ext", Kind("first,last", parse_nat_range), None, "",
        "More source ports for clients of a Service whose backend is on another node, where the client's "
        "own port is taken; above 1023 and outside of node-port-range. Unset: only those above the node's "
        "ephemeral ports.",
    )  # fmt: skip
