# SPDX-License-Identifier: Apache-2.0
"""Which endpoints are in which list: kube-proxy's rules, a row each."""

from __future__ import annotations

import pytest

from kubypass.model.address import format_address, parse_address
from kubypass.model.endpoint import Endpoint, EndpointSlice
from kubypass.model.protocol import Protocol
from kubypass.model.service import ServicePort
from kubypass.model.verdict import BackendList
from kubypass.plan.backends import is_usable, plan_backends
from kubypass.plan.items import PlanNode

PORT = ServicePort("", Protocol.TCP, 80, 0)


def endpoint(text: str) -> Endpoint:
    """`1@node=state/zones/nodes`: the last part of the address; r(eady), s(erving), t(erminating); hints."""
    where, zones, nodes = (text + "//").split("/")[:3]
    where, _, state = where.partition("=")
    number, _, node = where.partition("@")
    state = state or "rs"
    conditions = ("r" in state, "s" in state, "t" in state)
    hints = (tuple(filter(None, zones.split(","))), tuple(filter(None, nodes.split(","))))
    return Endpoint(parse_address(f"10.0.0.{number}"), node, *conditions, *hints)


def lists(text: str, node: PlanNode) -> tuple[str, str, bool]:
    """Last parts of the addresses in the Cluster list and in the Local one; whether any is usable."""
    slices = [
        EndpointSlice(
            "default",
            f"web-{n}",
            "web",
            4,
            (("", Protocol.TCP, 8080),),
            tuple(map(endpoint, one.split())),
        )
        for n, one in enumerate(text.split("|"))
    ]
    planned = plan_backends(slices, PORT, node, local=True)
    found = [
        " ".join(format_address(b.address).rpartition(".")[2] for b in planned if b.lists & one)
        for one in BackendList
    ]
    return found[0], found[1], is_usable(planned)


@pytest.mark.parametrize(
    ("endpoints", "cluster", "local", "usable"),
    [
        ("", "", "", False),
        ("1@me 2@other 3", "1 2 3", "1", True),
        ("1@me=s 2@other=-", "", "", False),
        ("1@me=st 2@other", "2", "1", True),
        ("1@me 2@me=st 3@other=st", "1", "1", True),
        ("1@me=st 2@other=st", "1 2", "1", True),
        ("1@me=t 2@other=st", "2", "", True),
        ("1@me=rst 2@other", "1 2", "1", True),
        # hints: zones
        ("1@me/a 2@other/b", "1", "1", True),
        ("1@me/b 2@other/a", "2", "1", True),
        ("1@me/b 2@other/b", "1 2", "1", True),
        ("1@me/a 2@other", "1 2", "1", True),
        ("1@me/a 2@other/a,b 3@other/b", "1 2", "1", True),
        ("1@me=st/a 2@other/b 3@other=s", "2", "1", True),
        ("1@other=st/b 2@other=st/a", "1 2", "", True),
        # hints: nodes, before zones
        ("1@me/a/me 2@other/a/other", "1", "1", True),
        ("1@me/a/other 2@other/a/third", "1 2", "1", True),
        ("1@me/a/other 2@other/b/third", "1", "1", True),
        ("1@me/a/me 2@other/a", "1 2", "1", True),
        # slices that disagree: this node's word counts, then the best one
        ("1@other|1@me=st", "1", "1", True),
        ("1@other=st|1@other", "1", "", True),
        ("1@me|1@me=s", "1", "1", True),
    ],
)  # fmt: skip
def test_lists(endpoints: str, cluster: str, local: str, usable: bool) -> None:
    assert lists(endpoints, PlanNode("me", (), "a")) == (cluster, local, usable)


def test_an_endpoint_that_names_no_node_is_on_none() -> None:
    assert lists("1 2@other", PlanNode("")) == ("1 2", "", True)


def test_a_node_without_a_zone_gets_all() -> None:
    assert lists("1@me/a 2@other/b", PlanNode("me"))[0] == "1 2"
