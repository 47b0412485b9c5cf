# SPDX-License-Identifier: Apache-2.0
"""A case that is no case is answered by an error, and the next one is answered as ever."""

from __future__ import annotations

import pytest

from tests.trace.cases import (
    CLUSTER_IP,
    POD,
    Ask,
    Case,
)

FLOW = {"src_ip": POD, "src_kind": "pod", "proto": "TCP", "dst_ip": CLUSTER_IP, "dst_port": 80}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("nonsense", "JSON is malformed"),
        ("[]", "Expected `object`"),
        ('{"id": ' + "[" * 5000 + "]" * 5000 + "}", "recursion"),
        ('{"objects": {"services": [' + '{"a":' * 100_000, "recursion"),
        ({"id": 7}, "flow"),
        ({"id": 7, "flow": {**FLOW, "src_ip": "x"}}, "flow.src_ip"),
        ({"id": 7, "flow": {**FLOW, "src_ip": "::1"}}, "one family"),
        ({"id": 7, "flow": {**FLOW, "proto": "GRE"}}, "TCP, UDP or SCTP"),
        ({"id": 7, "flow": {**FLOW, "dst_port": 0}}, "1 to 65535"),
        ({"id": 7, "flow": {**FLOW, "src_kind": "router"}}, "flow.src_kind"),
        ({"id": 7, "flow": FLOW, "cluster_cidr": ["ten"]}, "cluster_cidr"),
        ({"id": 7, "flow": FLOW, "node_ips": ["ten"]}, "node_ips"),
        ({"id": 7, "flow": FLOW, "objects": {"services": 3}}, "objects.services"),
        ({"id": 7, "flow": FLOW, "config": {"nodeport_addresses": "all"}}, "nodeport_addresses"),
    ],
)
def test_a_bad_case_is_a_line_with_an_error(
    ask: Ask, line: dict[str, object] | str, error: str
) -> None:
    answer = ask(line)
    assert error in answer["error"]
    assert answer["id"] == (7 if isinstance(line, dict) else None)
    assert ask(Case().ask(POD, CLUSTER_IP, 80))["verdict"] == "dnat", "the next one is answered"


@pytest.mark.parametrize(
    "bad", [3, None, {}, {"spec": 7}, {"metadata": {"name": "x"}, "spec": {"ports": "80"}}]
)
def test_bad_objects_are_problems_of_their_case(
    ask: Ask, bad: dict[str, object] | int | None
) -> None:
    case = Case().ask(POD, CLUSTER_IP, 80)
    for objects in case["objects"].values():
        objects.append(bad)
    answer = ask(case)
    assert answer["verdict"] == "dnat"
    assert answer["problems"]
