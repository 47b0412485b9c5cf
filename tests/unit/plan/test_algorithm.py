# SPDX-License-Identifier: Apache-2.0
"""Which Services select by Maglev: as the setting says, or their annotation where that may decide."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kubypass.model.address import parse_address
from kubypass.model.protocol import Protocol
from kubypass.model.service import Service, ServicePort
from kubypass.plan.items import PlanNode
from kubypass.plan.services import plan_service
from kubypass.settings.settings import Settings

NODE = PlanNode.of("node1", None, [parse_address("192.168.1.31")], [parse_address("192.168.1.31")])
WEB = Service(
    "default", "web", "NodePort", (parse_address("10.96.0.1"),), (), (),
    (ServicePort("", Protocol.TCP, 80, 30080),),
)  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "may_decide", "annotation", "expected"),
    [
        ("random", False, "maglev", False),
        ("maglev", False, "random", True),
        ("random", True, "maglev", True),
        ("maglev", True, "random", False),
        ("maglev", True, "", True),
        ("random", True, "", False),
    ],
)
def test_setting_and_annotation(
    setting: str, *, may_decide: bool, annotation: str, expected: bool
) -> None:
    base = Settings()
    balancing = replace(base.balancing, algorithm=setting, by_annotation=may_decide)
    service = replace(WEB, algorithm=annotation)
    plan = plan_service(service, (), NODE, replace(base, balancing=balancing))
    assert {item.maglev is not None for item in plan.items} == {expected}


def test_a_cluster_ip_has_no_table() -> None:
    base = Settings()
    settings = replace(base, balancing=replace(base.balancing, algorithm="maglev"))
    inner = replace(WEB, type="ClusterIP", ports=(ServicePort("", Protocol.TCP, 80, 0),))
    assert [item.maglev for item in plan_service(inner, (), NODE, settings).items] == [None]
