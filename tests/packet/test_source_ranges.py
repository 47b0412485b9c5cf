# SPDX-License-Identifier: Apache-2.0
"""Which clients may connect to a load balancer's address. From objects."""

from __future__ import annotations

from typing import Any

import pytest

from kubypass.model.verdict import Verdict
from tests.packet.objects import (
    BALANCER,
    PORT,
    endpoint,
    endpoint_slice,
    frontends,
    put,
    service,
)
from tests.packet.packets import Addresses, segment
from tests.packet.pipeline import Pipeline
from tests.packet.policies import OTHER_ADDRESS, connect
from tests.packet.raw import ends


def ranges_of(who: Addresses, *parts: str) -> list[str]:
    known = {
        "client": f"{who.client}/{32 if who.version == 4 else 128}",
        "node": f" {who.node}/{24 if who.version == 4 else 64}",
        "here": f"{OTHER_ADDRESS[who.version]}/{32 if who.version == 4 else 128}",
        "pods": "10.233.64.0/18" if who.version == 4 else "fd00:10:233::/48",
        "elsewhere": "192.0.2.0/24" if who.version == 4 else "2001:db8:77::/48",
        "other family": "2001:db8::/32" if who.version == 4 else "0.0.0.0/0",
        "all": "0.0.0.0/0" if who.version == 4 else "::/0",
    }
    return [known[part] for part in parts]


RANGES = [
    # ranges, client -> let in
    (("client",), "outside", True),
    (("client",), "pod", False),
    (("client",), "node", False),
    (("pods",), "pod", True),
    (("pods",), "outside", False),
    (("here",), "node", True),
    (("node",), "node", False),  # it has another address
    (("node",), "outside", False),
    (("elsewhere",), "outside", False),
    (("elsewhere", "client"), "outside", True),
    (("other family",), "outside", True),
    (("other family",), "pod", True),
    (("other family", "elsewhere"), "outside", False),
    (("all",), "outside", True),
]


@pytest.mark.parametrize(("ranges", "client", "let_in"), RANGES)
@pytest.mark.parametrize("states", ["ready", ""], ids=["backend", "empty"])
def test_source_ranges_of_a_load_balancer(
    opened: Pipeline,
    who: Addresses,
    ranges: tuple[str, ...],
    client: str,
    let_in: bool,
    states: str,
) -> None:
    """Before anything else is looked at; of no other kind of frontend."""
    spec: dict[str, Any] = {"loadBalancerSourceRanges": ranges_of(who, *ranges)}
    backends = [endpoint(who.second_pod)] if states else []
    put(opened, service(who, **spec), endpoint_slice(who, backends))
    answer = who.second_pod if states else "reject"
    got = connect(opened, who, client, frontends(who)["balancer"], "TCP", 40000, True)
    assert got == (answer if let_in else "DROP_SOURCE_RANGE")
    got = connect(opened, who, client, frontends(who)["external"], "TCP", 40001, True)
    assert got == answer
    if client != "node":
        assert connect(opened, who, client, frontends(who)["node"], "TCP", 40002, True) == answer


@pytest.mark.parametrize(("ranges", "let_in"), [(("node",), True), (("elsewhere",), False)])
def test_a_balancers_address_on_the_node_may_ask_itself(
    opened: Pipeline, who: Addresses, ranges: tuple[str, ...], let_in: bool
) -> None:
    """Where an agent of the cloud's binds it."""
    found = ranges_of(who, *ranges)
    put(
        opened,
        service(who, loadBalancerSourceRanges=found),
        endpoint_slice(who, [endpoint(who.second_pod)]),
    )
    vip = BALANCER[who.version]
    seen = opened.run("to_uplink", bytes(segment(who, (vip, 40000, vip, PORT))))
    assert seen.verdict == (Verdict.TO_POD if let_in else Verdict.DROP_SOURCE_RANGE)


MODES = [({}, True), ({"ipMode": "VIP"}, True), ({"ipMode": "Proxy"}, False)]


@pytest.mark.parametrize(("mode", "served"), MODES)
def test_a_balancer_that_is_a_proxy_is_left_alone(
    opened: Pipeline, who: Addresses, mode: dict[str, str], served: bool
) -> None:
    item = service(who)
    item["status"]["loadBalancer"]["ingress"] = [
        {"hostname": "a.example"},
        {"ip": BALANCER[who.version], **mode},
    ]
    put(opened, item, endpoint_slice(who, [endpoint(who.second_pod)]))
    packet = bytes(segment(who, (who.pod, 40000, *frontends(who)["balancer"])))
    got = ends(opened.run("from_pod", packet).packet).destination
    assert got == (who.second_pod if served else BALANCER[who.version])
