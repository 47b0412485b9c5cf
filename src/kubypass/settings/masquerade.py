# SPDX-License-Identifier: Apache-2.0
"""Settings of masquerading: whose packets leave with the node's address."""

from __future__ import annotations

from dataclasses import dataclass
from operator import not_

from kubypass.settings.key import Kind, setting
from kubypass.settings.kinds import SWITCH
from kubypass.settings.parse import parse_nat_range

_ALWAYS_BPF = "no effect: kubypass always masquerades in BPF programs"


@dataclass(frozen=True, slots=True)
class MasqueradeSettings:
    """Whose packets leave with the node's address, and with which source ports."""

    ipv4: bool = setting(
        "enable-ipv4-masquerade", SWITCH, True, "true",
        "IPv4 packets of pods to addresses outside of the cluster leave with an address of the node. A change "
        "concerns new connections; those that are open stay as they are.", live=True,
    )  # fmt: skip
    ipv6: bool = setting(
        "enable-ipv6-masquerade", SWITCH, True, "true", "As enable-ipv4-masquerade.", live=True,
    )  # fmt: skip
    in_bpf: bool = setting(
        "enable-bpf-masquerade", SWITCH, True, "true",
        "Masquerades in BPF programs instead of netfilter.", effect=_ALWAYS_BPF, ignored=not_,
    )  # fmt: skip
    with_agent_list: bool = setting(
        "enable-ip-masq-agent", SWITCH, False, "false",
        "Networks that ip-masq-agent's configuration names are reached by pods with their own addresses; without "
        "that configuration, private and reserved IPv4 networks and link-local addresses are.",
    )  # fmt: skip
    agent_list: str = setting(
        "ip-masq-agent-config-path", Kind("path", str), "/etc/config/ip-masq-agent", "/etc/config/ip-masq-agent",
        "The file with ip-masq-agent's configuration (nonMasqueradeCIDRs, masqLinkLocal, masqLinkLocalIPv6). It is "
        "read again when it changes.",
    )  # fmt: skip
    node_external_ips: bool = setting(
        "masquerade-to-node-external-ips", SWITCH, False, "false",
        "Packets of pods to the ExternalIPs of the cluster's nodes are masqueraded too. Not one of Cilium's keys.",
    )  # fmt: skip
    cluster_ip_clients: bool = setting(
        "masquerade-all", SWITCH, False, "false",
        "Masquerades every client of a ClusterIP with the node's address, pods included.",
    )  # fmt: skip
    extra_ports: tuple[int, int] | None = setting(
        "node-port-nat-range-ext", Kind("first,last", parse_nat_range), None, "",
        "More source ports for masqueraded connections whose own port is taken; above 1023 and outside of "
        "node-port-range. Unset: only those above the node's ephemeral ports.",
    )  # fmt: skip
