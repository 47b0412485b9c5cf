# SPDX-License-Identifier: Apache-2.0
"""Plans which addresses pods reach with their own: the cluster's, and those that settings or ip-masq-agent name.

Everything else is outside: packets of pods leave with an address of the node, by the uplinks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from kubypass.model.address import Address, Family, family_bit
from kubypass.model.agent_list import LINK_LOCAL, AgentList
from kubypass.model.cidr import Cidr, host_cidr, parse_cidr
from kubypass.model.node import Node
from kubypass.model.verdict import InsideReason
from kubypass.settings.settings import Settings

NO_POD_NETWORK: Final = (
    "no network of pods is known, so that pods of other nodes could not be told from the outside; set "
    "ipv4-native-routing-cidr or ipv6-native-routing-cidr"
)
NO_ADDRESS: Final = "no uplink has an address of this family"

_WHOLE: Final = {4: ("0.0.0.0/0",), 6: ("2000::/3", "fc00::/7")}
"""All that pods reach beyond their link. IPv4 addresses are within ::/0."""


def masquerade_families(settings: Settings) -> int:
    """The families in which pods are to be masqueraded, as family bits."""
    return sum(map(family_bit, wanted_families(settings)))


def wanted_families(settings: Settings) -> tuple[Family, ...]:
    """The families in which pods are to be masqueraded."""
    on = {4: settings.masquerade.ipv4, 6: settings.masquerade.ipv6}
    return tuple(version for version in settings.network.families if on[version])


def cluster_networks(settings: Settings) -> tuple[Cidr, ...]:
    """The networks that settings name: those of pods, and others that are reached without masquerade."""
    pods = settings.pods
    named = (
        *settings.routing.native_cidrs,
        *pods.cluster_cidrs,
        *pods.ipv4_pools,
        *pods.ipv6_pools,
    )
    return tuple(dict.fromkeys(named))


def pod_networks(settings: Settings, nodes: Iterable[Node]) -> tuple[Cidr, ...]:
    """The networks of pods that settings and Node objects name."""
    pods = settings.pods
    of_nodes = (cidr for node in nodes for cidr in node.pod_cidrs)
    return (*pods.cluster_cidrs, *pods.ipv4_pools, *pods.ipv6_pools, *of_nodes)


def plan_inside(
    settings: Settings, nodes: Iterable[Node], agent_list: AgentList | None
) -> dict[Cidr, InsideReason]:
    """The networks that pods reach with their own addresses, each with the first reason that applies."""
    families = wanted_families(settings)
    found: dict[Cidr, InsideReason] = {}

    def add(cidrs: Iterable[Cidr], reason: InsideReason) -> None:
        for cidr in cidrs:
            if cidr.family in families:
                found.setdefault(cidr, reason)

    add(settings.routing.native_cidrs, InsideReason.NATIVE)
    add(cluster_networks(settings), InsideReason.PODS)
    for node in nodes:
        add(node.pod_cidrs, InsideReason.PODS)
        external = () if settings.masquerade.node_external_ips else node.external_addresses
        add(map(host_cidr, (*node.addresses, *external)), InsideReason.NODE)
    if agent_list:
        add((*agent_list.networks, *agent_list.link_local), InsideReason.AGENT)
    return found


def masqueraded_families(
    settings: Settings, inside: Mapping[Cidr, InsideReason], primary: Mapping[int, Address]
) -> tuple[tuple[Family, ...], str]:
    """The families in which pods are masqueraded, and why they are not all that are wanted."""
    found: list[Family] = []
    reasons: list[str] = []
    for version in wanted_families(settings):
        if not any(
            why != InsideReason.NODE and cidr.family == version and cidr not in LINK_LOCAL
            for cidr, why in inside.items()
        ):
            reasons.append(f"IPv{version}: {NO_POD_NETWORK}")
        elif version not in primary:
            reasons.append(f"IPv{version}: {NO_ADDRESS}")
        else:
            found.append(version)
    return tuple(found), "; ".join(reasons)


def plan_without(settings: Settings, masqueraded: Collection[Family]) -> dict[Cidr, InsideReason]:
    """The networks of families that are wanted and cannot be masqueraded: all is inside."""
    return {
        parse_cidr(text): InsideReason.FAMILY
        for version in wanted_families(settings)
        if version not in masqueraded
        for text in _WHOLE[version]
    }
