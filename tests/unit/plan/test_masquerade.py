# SPDX-License-Identifier: Apache-2.0
"""Which addresses pods reach with their own, and in which families they are masqueraded."""

from __future__ import annotations

import pytest

from kubypass.model.address import parse_address
from kubypass.model.agent_list import AgentList
from kubypass.model.cidr import parse_cidr
from kubypass.model.node import Node
from kubypass.model.verdict import InsideReason
from kubypass.plan.masquerade import masquerade_families, masqueraded_families, plan_inside
from kubypass.settings.check import check_settings
from kubypass.settings.settings import Settings

NODES = [
    Node(
        "one",
        (parse_address("192.168.1.31"), parse_address("fd00::31")),
        (parse_cidr("10.244.0.0/24"), parse_cidr("fd44::/64")),
        external_addresses=(parse_address("203.0.113.31"),),
    ),
    Node("two", (parse_address("192.168.1.32"),), ()),
]
PRIMARY = {4: parse_address("192.168.1.31"), 6: parse_address("fd00::31")}


def settings(**values: str) -> Settings:
    given = {key.replace("_", "-"): value for key, value in values.items()}
    return check_settings(given)[0]


def inside(found: Settings, agent_list: AgentList | None = None) -> dict[str, InsideReason]:
    return {str(cidr): reason for cidr, reason in plan_inside(found, NODES, agent_list).items()}


def test_nodes_and_their_pods_are_inside() -> None:
    assert inside(settings()) == {
        "10.244.0.0/24": InsideReason.PODS,
        "fd44::/64": InsideReason.PODS,
        "192.168.1.31/32": InsideReason.NODE,
        "fd00::31/128": InsideReason.NODE,
        "203.0.113.31/32": InsideReason.NODE,
        "192.168.1.32/32": InsideReason.NODE,
    }


def test_external_addresses_of_nodes_are_outside_where_that_is_set() -> None:
    found = settings(masquerade_to_node_external_ips="true")
    assert "203.0.113.31/32" not in inside(found)


def test_settings_name_more() -> None:
    found = inside(
        settings(
            ipv4_native_routing_cidr="10.0.0.0/8",
            ipv6_native_routing_cidr="fd00::/8",
            cluster_cidr="10.244.0.0/16,fd44::/48",
            cluster_pool_ipv4_cidr="10.99.0.0/16",
        )
    )
    assert found["10.0.0.0/8"] == found["fd00::/8"] == InsideReason.NATIVE
    assert (
        found["10.244.0.0/16"] == found["fd44::/48"] == found["10.99.0.0/16"] == InsideReason.PODS
    )


@pytest.mark.parametrize(
    ("agent_list", "networks"),
    [
        (
            AgentList(),
            {"10.0.0.0/8", "192.168.0.0/16", "240.0.0.0/4", "169.254.0.0/16", "fe80::/10"},
        ),
        (AgentList((parse_cidr("192.0.2.0/24"),)), {"192.0.2.0/24", "169.254.0.0/16", "fe80::/10"}),
        (AgentList((), frozenset({4})), {"fe80::/10"}),
        (AgentList((), frozenset({4, 6})), set()),
    ],
)
def test_the_agents_list(agent_list: AgentList, networks: set[str]) -> None:
    found = inside(settings(), agent_list)
    of_agent = {text for text, reason in found.items() if reason == InsideReason.AGENT}
    assert networks <= of_agent
    assert len(of_agent) == (13 if agent_list == AgentList() else len(networks))


@pytest.mark.parametrize(
    ("values", "families"),
    [
        ({}, 3),
        ({"enable_ipv4_masquerade": "false"}, 2),
        ({"enable_ipv6_masquerade": "false"}, 1),
        ({"enable_ipv6": "false"}, 1),
        ({"enable_ipv4_masquerade": "false", "enable_ipv6_masquerade": "false"}, 0),
        ({"enable_bpf_masquerade": "false"}, 3),
        ({"masquerade": "false"}, 2),
    ],
)
def test_families(values: dict[str, str], families: int) -> None:
    found = settings(**values)
    assert masquerade_families(found) == families
    versions = {cidr.family for cidr in plan_inside(found, NODES, AgentList())}
    assert versions == {v for v, bit in ((4, 1), (6, 2)) if families & bit}


def test_a_family_without_a_known_network_of_pods_is_not_masqueraded() -> None:
    """Its pods on other nodes would be taken for hosts outside."""
    found = settings()
    only_ipv4 = [Node("one", NODES[0].addresses, (parse_cidr("10.244.0.0/24"),))]
    families, why = masqueraded_families(found, plan_inside(found, only_ipv4, None), PRIMARY)
    assert families == (4,)
    assert why.startswith("IPv6: no network of pods is known")
    families, _ = masqueraded_families(found, plan_inside(found, only_ipv4, AgentList()), PRIMARY)
    assert families == (4,), "link-local addresses are no pods'"
    families, why = masqueraded_families(found, plan_inside(found, NODES, None), PRIMARY)
    assert (families, why) == ((4, 6), "")


def test_a_family_without_an_address_on_an_uplink_is_not_masqueraded() -> None:
    found = settings()
    everything = plan_inside(found, NODES, None)
    families, why = masqueraded_families(found, everything, {4: PRIMARY[4]})
    assert (families, why) == ((4,), "IPv6: no uplink has an address of this family")
