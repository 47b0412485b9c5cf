# SPDX-License-Identifier: Apache-2.0
"""Which addresses and ports a Service has, asked of the kernel through `trace --batch`."""

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
from tests.trace.rows import BOTH, LOCAL, Check


@pytest.mark.parametrize(
    ("vips", "expected"),
    [
        ([{"ip": VIP, "ipMode": "VIP"}], (BOTH, True)),
        ([{"ip": VIP, "ipMode": "Proxy"}], "accept"),
        ([{"hostname": "lb.example.com"}], "accept"),
        ([{"ip": "192.0.2.99"}, {"ip": VIP}], (BOTH, True)),
    ],
)
def test_ingress(
    check: Check, vips: list[dict[str, str]], expected: str | tuple[tuple[str, str], bool]
) -> None:
    for source in (POD, NODE, OUTSIDE):
        check(Case(vips=vips), source, VIP, 80, expected)
        check(Case(vips=vips), source, NODE, NODE_PORT, (BOTH, True))


@pytest.mark.parametrize("source", [POD, NODE, OUTSIDE])
def test_what_is_not_served(check: Check, source: str) -> None:
    case = Case()
    check(case, source, CLUSTER_IP, 81, "reject")
    check(case, source, "10.96.0.11", 80, "drop")
    check(Case(config={"service_cidrs": []}), source, "10.96.0.11", 80, "accept")
    check(Case(config={"service_cidrs": []}), source, CLUSTER_IP, 81, "reject")
    for to, port in (
        (VIP, 81),
        (EXTERNAL_IP, 81),
        (NODE, 80),
        (NODE, 30081),
        ("192.168.0.3", NODE_PORT),
    ):
        check(case, source, to, port, "accept")
    check(case, source, "10.0.2.1", 8080, "accept")


@pytest.mark.parametrize(
    ("chosen", "first", "second", "loopback"),
    [
        (None, True, True, True),
        ("primary", True, False, False),
        (["192.168.0.0/24"], True, False, False),
        (["192.168.1.0/24"], False, True, False),
        (["127.0.0.0/8", "192.168.1.0/24"], False, True, True),
        (["0.0.0.0/0"], True, True, True),
    ],
    ids=str,
)
def test_node_port_addresses(
    ask: Ask,
    chosen: list[str] | str | None,
    first: bool,
    second: bool,
    loopback: bool,
) -> None:
    case = Case(config={"nodeport_addresses": chosen})
    for to, answers in ((NODE, first), (ALT, second), ("127.0.0.1", loopback)):
        sources = (NODE,) if to == "127.0.0.1" else (POD, NODE, OUTSIDE)
        for source in sources:
            found = ask(case.ask(source, to, NODE_PORT))["verdict"]
            assert found == ("dnat" if answers else "accept"), (source, to)


def test_networks_of_one_family_leave_the_other_alone(
    ask: Ask,
) -> None:
    case = Case(config={"nodeport_addresses": ["fd00:1::/64"]})
    assert ask(case.ask(OUTSIDE, ALT, NODE_PORT))["verdict"] == "dnat"


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        (Case(), "dnat"),
        (Case(spec=LOCAL), "dnat"),
        (Case(""), "reject"),
        (Case(config={"localhost_nodeports": False}), "accept"),
        (
            Case(config={"localhost_nodeports": False, "nodeport_addresses": ["127.0.0.1/32"]}),
            "accept",
        ),
    ],
)
def test_loopback(ask: Ask, case: Case, verdict: str) -> None:
    asked = case.ask("127.0.0.1", "127.0.0.1", NODE_PORT)
    answer = ask(asked)
    assert (answer["verdict"], answer["masquerade"]) == (verdict, verdict == "dnat")
    assert ask(ipv6(asked))["verdict"] == "accept", "kube-proxy has it for IPv4 only"


@pytest.mark.parametrize(
    "spec", [{"type": "ExternalName"}, {"clusterIP": "None"}], ids=["ExternalName", "headless"]
)
def test_services_that_are_none(check: Check, spec: dict[str, str]) -> None:
    for to, port in ((CLUSTER_IP, 80), (NODE, NODE_PORT), (VIP, 80)):
        check(Case(spec=spec, config={"service_cidrs": []}), POD, to, port, "accept")


def test_an_endpoint_that_names_no_node_is_remote(ask: Ask) -> None:
    case = Case("10.0.1.1", {"internalTrafficPolicy": "Local"}).ask(POD, CLUSTER_IP, 80)
    for name in ("me", ""):
        assert ask({**case, "this_node": name})["verdict"] == "drop"


def test_leading_zeros_are_decimal(ask: Ask) -> None:
    case = Case("010.000.001.001@me").ask(POD, "010.096.000.010", 80)
    assert ask(case)["backends"] == ["10.0.1.1:8080"]


@pytest.mark.parametrize("source", ["127.0.0.1", "224.0.0.5", "255.255.255.255", "0.1.2.3"])
def test_what_no_network_carries_is_not_looked_up(ask: Ask, source: str) -> None:
    case = Case().ask(OUTSIDE, NODE, NODE_PORT)
    case["flow"]["src_ip"] = source
    case["flow"]["src_kind"] = "external"
    answer = ask(case)
    assert (answer["verdict"], answer["backends"]) == ("accept", [])
    assert answer["reason"].startswith(
        f"{source} to {NODE}:{NODE_PORT}/TCP: no packet of a network"
    )
