# SPDX-License-Identifier: Apache-2.0
"""Settings of native routing: how packets of pods reach other nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubypass.settings.key import Kind, setting
from kubypass.settings.kinds import DEVICE, SWITCH
from kubypass.settings.parse import parse_choice, parse_family_cidr

if TYPE_CHECKING:
    from kubypass.model.cidr import Cidr


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """How packets of pods reach the pods of other nodes."""

    mode: str = setting(
        "routing-mode", Kind("word", parse_choice("native")), "native", "native",
        "Packets of pods are routed as they are; kubypass has no tunnels.", choices=("native",),
        effect="no effect: native routing is the only mode",
    )  # fmt: skip
    ipv4_native_cidr: Cidr | None = setting(  # noqa: RUF009
        "ipv4-native-routing-cidr", Kind("IPv4 network", parse_family_cidr(4)), None, "",
        "The network that pods reach with their own addresses, as it routes their packets; usually the pods' network.",
    )  # fmt: skip
    ipv6_native_cidr: Cidr | None = setting(  # noqa: RUF009
        "ipv6-native-routing-cidr", Kind("IPv6 network", parse_family_cidr(6)), None, "",
        "As ipv4-native-routing-cidr.",
    )  # fmt: skip
    legacy_host: bool = setting(
        "enable-host-legacy-routing", SWITCH, False, "false",
        "Packets of pods go through the node's own stack, so that netfilter rules of the node hold for them; services "
        "are still translated by BPF programs. Off, BPF programs forward them past the stack, which is faster.",
        live=True,
    )  # fmt: skip
    no_conntrack: bool = setting(
        "install-no-conntrack-iptables-rules", SWITCH, False, "false",
        "With enable-host-legacy-routing: netfilter's connection tracking skips packets of pods. It stays off where "
        "rules of others need it.", live=True,
    )  # fmt: skip
    direct_device: str = setting(
        "direct-routing-device", DEVICE, "", "",
        "The uplink towards the other nodes.",
        effect="no effect: the kernel's routes say which uplink leads to a node", ignored=bool,
    )  # fmt: skip
    direct_node_routes: bool = setting(
        "auto-direct-node-routes", SWITCH, False, "false",
        "Makes routes to the other nodes' pods via those nodes' addresses. All nodes have to be in one "
        "segment.", live=True,
    )  # fmt: skip
    skip_unreachable_nodes: bool = setting(
        "direct-routing-skip-unreachable", SWITCH, False, "false",
        "With auto-direct-node-routes: a node behind a gateway gets no route, and is not reported as a "
        "problem; the network has to route to its pods.", live=True,
    )  # fmt: skip

    @property
    def native_cidrs(self) -> tuple[Cidr, ...]:
        """The native-routing networks that are set."""
        return tuple(cidr for cidr in (self.ipv4_native_cidr, self.ipv6_native_cidr) if cidr)
