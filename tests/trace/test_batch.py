# SPDX-License-Identifier: Apache-2.0
"""kube-proxy's truth tables, asked of the kernel through `trace --batch`; every row in both families."""

from __future__ import annotations

import pytest

from tests.trace.cases import (
    ALT,
    CLUSTER_IP,
    EXTERNAL_IP,
    NODE,
    NODE_PORT,
    OUTSIDE,
    POD,
    VIP,
    Ask,
    Case,
    ipv6,
)
from tests.trace.rows import BOTH, ELSEWHERE, ENDING, EXTERNAL, LOCAL, MINE, OTHER, Check


@pytest.mark.parametrize("proto", ["TCP", "UDP", "SCTP"])
@pytest.mark.parametrize(
    ("source", "masquerade"), [(POD, False), (NODE, True), (ALT, True), (OUTSIDE, True)]
)
def test_cluster_ip(check: Check, source: str, masquerade: bool, proto: str) -> None:
    check(Case(), source, CLUSTER_IP, 80, (BOTH, masquerade), proto=proto)


@pytest.mark.parametrize("source", [POD, NODE, OUTSIDE])
@pytest.mark.parametrize(
    ("config", "cidr", "masquerade"),
    [
        ({"masquerade_all": True}, "10.0.0.0/16", True),
        ({"local_detector": "none"}, "10.0.0.0/16", False),
        ({}, "", False),
    ],
    ids=["masquerade-all", "no detector", "no cluster CIDR"],
)
def test_cluster_ip_masquerade(
    check: Check, source: str, config: dict[str, object], cidr: str, masquerade: bool
) -> None:
    check(Case(config=config, cluster_cidr=cidr), source, CLUSTER_IP, 80, (BOTH, masquerade))


@pytest.mark.parametrize("source", [POD, NODE, OUTSIDE])
def test_a_cluster_cidr_of_the_other_family_is_no_detector(ask: Ask, source: str) -> None:
    case = Case(spec=LOCAL, cluster_cidr="fd00:1::/32")
    to_cluster_ip = case.ask(source, CLUSTER_IP, 80)
    assert ask(to_cluster_ip)["masquerade"] is False
    assert ask(ipv6(to_cluster_ip))["masquerade"] is True
    backends = ask(case.ask(source, VIP, 80))["backends"]
    assert len(backends) == (2 if source == NODE else 1)


@pytest.mark.parametrize("source", [POD, NODE, OUTSIDE])
@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        ("10.0.1.1@me 10.0.2.1@other", MINE),
        (ELSEWHERE, "drop"),
        ("", "reject"),
        ("10.0.1.1@me=s", "reject"),
        ("10.0.1.1@me=st 10.0.2.1@other", MINE),
        (ENDING, MINE),
    ],
)
def test_internal_traffic_policy_local(
    check: Check, source: str, endpoints: str, expected: str | tuple[str]
) -> None:
    case = Case(endpoints, {"internalTrafficPolicy": "Local"})
    check(
        case,
        source,
        CLUSTER_IP,
        80,
        expected if isinstance(expected, str) else (expected, source != POD),
    )
    if endpoints == ELSEWHERE:
        check(case, source, VIP, 80, (OTHER, True))


@pytest.mark.parametrize(("to", "port"), EXTERNAL)
@pytest.mark.parametrize("source", [POD, NODE, OUTSIDE])
def test_external_traffic_policy_cluster(check: Check, source: str, to: str, port: int) -> None:
    check(Case(), source, to, port, (BOTH, True))
    check(Case(""), source, to, port, "reject")
    check(Case("10.0.1.1@me=s"), source, to, port, "reject")
    check(Case(ENDING), source, to, port, (BOTH, True))


@pytest.mark.parametrize(("to", "port"), EXTERNAL)
def test_external_traffic_policy_local(check: Check, to: str, port: int) -> None:
    check(Case(spec=LOCAL), OUTSIDE, to, port, (MINE, False))
    check(Case(spec=LOCAL), POD, to, port, (BOTH, False))
    check(Case(spec=LOCAL), NODE, to, port, (BOTH, True))
    check(Case(spec=LOCAL), ALT, to, port, (BOTH, True))
    check(Case(ELSEWHERE, LOCAL), OUTSIDE, to, port, "drop")
    check(Case(ELSEWHERE, LOCAL), POD, to, port, (OTHER, False))
    check(
        Case(ELSEWHERE, {**LOCAL, "internalTrafficPolicy": "Local"}), POD, to, port, (OTHER, False)
    )
    for source in (OUTSIDE, POD, NODE):
        check(Case("", LOCAL), source, to, port, "reject")
    check(Case("10.0.1.1@me=st 10.0.2.1@other", LOCAL), OUTSIDE, to, port, (MINE, False))
    without = Case(spec=LOCAL, config={"local_detector": "none"})
    check(without, POD, to, port, (MINE, False))
    check(without, NODE, to, port, (BOTH, True))


@pytest.mark.parametrize("kind", ["pod", "external"])
@pytest.mark.parametrize("source", [NODE, ALT])
def test_an_address_of_the_node_is_the_node_whoever_has_it(
    check: Check, source: str, kind: str
) -> None:
    for config in ({}, {"local_detector": "none"}):
        case = Case(spec=LOCAL, config=config)
        for to, port in EXTERNAL:
            check(case, source, to, port, (BOTH, True), kind=kind)
        check(case, source, CLUSTER_IP, 80, (BOTH, not config), kind=kind)


def test_policies_of_the_other_kind_change_nothing(check: Check) -> None:
    check(Case(spec=LOCAL), POD, CLUSTER_IP, 80, (BOTH, False))
    check(Case(spec={"internalTrafficPolicy": "Local"}), OUTSIDE, VIP, 80, (BOTH, True))


@pytest.mark.parametrize("source", [POD, NODE])
def test_a_client_that_is_its_own_backend_is_masqueraded(check: Check, source: str) -> None:
    endpoints = "10.0.1.1@me" if source == POD else f"{NODE}@me"
    client = "10.0.1.1" if source == POD else NODE
    check(
        Case(endpoints),
        client,
        CLUSTER_IP,
        80,
        ((client,), True),
        kind="pod" if source == POD else "node",
    )


RANGES = ["203.0.113.0/24"]


@pytest.mark.parametrize(
    ("ranges", "source", "expected"),
    [
        (RANGES, OUTSIDE, (BOTH, True)),
        (RANGES, "198.51.100.1", "drop"),
        (RANGES, POD, "drop"),
        (RANGES, NODE, "drop"),
        ([*RANGES, "10.0.0.0/16"], POD, (BOTH, True)),
        ([*RANGES, " 192.168.0.0/24"], NODE, (BOTH, True)),
        ([*RANGES, "192.168.0.0/24"], VIP, (BOTH, True)),
        (RANGES, VIP, "drop"),
    ],
)
def test_source_ranges(
    check: Check, ranges: list[str], source: str, expected: str | tuple[tuple[str, str], bool]
) -> None:
    kind = "node" if source == VIP else ""
    case = Case(spec={"loadBalancerSourceRanges": ranges})
    check(case, source, VIP, 80, expected, kind=kind)
    if source != VIP:
        for to, port in ((NODE, NODE_PORT), (EXTERNAL_IP, 80)):
            check(case, source, to, port, (BOTH, True))
    check(
        Case("", {"loadBalancerSourceRanges": ranges}),
        source,
        VIP,
        80,
        "drop" if expected == "drop" else "reject",
        kind=kind,
    )


def test_ranges_of_the_other_family_filter_nothing(ask: Ask) -> None:
    case = Case(spec={"loadBalancerSourceRanges": ["2001:db8::/64"]}).ask(OUTSIDE, VIP, 80)
    assert ask(case)["verdict"] == "dnat"
