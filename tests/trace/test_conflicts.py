# SPDX-License-Identifier: Apache-2.0
"""Two Services that claim one frontend, asked of the kernel through `trace --batch`."""

from __future__ import annotations

import pytest

from tests.trace.cases import (
    ALT,
    CLUSTER_IP,
    NODE,
    NODE_PORT,
    OUTSIDE,
    POD,
    Ask,
    Case,
    ipv6,
)


def test_a_conflict_has_a_winner_and_is_told(ask: Ask) -> None:
    case = Case().ask(OUTSIDE, NODE, NODE_PORT)
    (service,) = case["objects"]["services"]
    rival = {
        "metadata": {**service["metadata"], "name": "a-rival"},
        "spec": {**service["spec"], "clusterIP": "10.96.0.99", "externalIPs": []},
    }
    rival["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    case["objects"]["services"].append(rival)
    service["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    answer = ask(case)
    assert answer["verdict"] == "dnat"
    assert any("a-rival" in problem and "default/web" in problem for problem in answer["problems"])


@pytest.mark.parametrize(
    ("chosen", "owner"), [([f"{ALT}/32"], "young"), (None, "web"), ("primary", "web")]
)
def test_a_node_port_yields_an_address_on_which_it_does_not_answer(
    ask: Ask, chosen: list[str] | str | None, owner: str
) -> None:
    case = Case(config={"nodeport_addresses": chosen}).ask(OUTSIDE, NODE, NODE_PORT)
    case["objects"]["services"][0]["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    young = {
        "metadata": {"name": "young", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"clusterIP": "10.96.0.99", "externalIPs": [NODE], "ports": [{"port": NODE_PORT}]},
    }  # fmt: skip
    case["objects"]["services"].append(young)
    answer = ask(case)
    assert answer["verdict"] == ("dnat" if owner == "web" else "reject")
    assert owner in answer["reason"]


@pytest.mark.parametrize("source", [POD, NODE, OUTSIDE])
def test_a_cluster_ip_that_has_lost_its_ports_is_one_all_the_same(ask: Ask, source: str) -> None:
    case = Case(config={"service_cidrs": []}).ask(source, CLUSTER_IP, 81)
    old = {
        "metadata": {
            "name": "old",
            "namespace": "default",
            "creationTimestamp": "2025-01-01T00:00:00Z",
        },
        "spec": {
            "clusterIP": "10.96.0.99",
            "externalIPs": [CLUSTER_IP],
            "ports": [{"name": p, "port": 80, "protocol": p} for p in ("TCP", "UDP", "SCTP")],
        },
    }
    case["objects"]["services"][0]["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    case["objects"]["services"].append(old)
    for one in (case, ipv6(case)):
        assert ask(one)["verdict"] == "reject"
        one["flow"]["dst_port"] = 80
        assert "default/old" in ask(one)["reason"]
