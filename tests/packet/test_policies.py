# SPDX-License-Identifier: Apache-2.0
"""kube-proxy's truth tables, from objects to whole packets.

They say which list of endpoints a client gets and whether it is masqueraded, for every kind of frontend, policy, client
and state of the endpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from kubypass.model.verdict import Verdict
from tests.packet.objects import TARGET, endpoint, endpoint_slice, frontends, put, service
from tests.packet.packets import Addresses, segment
from tests.packet.pipeline import Pipeline
from tests.packet.policies import HOOKS, connect, draw, source_of

EXTERNAL_KINDS = ["node", "external", "balancer"]


@dataclass(frozen=True)
class Row:
    """What two endpoints, of this node and of another, make of the two lists. Letters: L and R."""

    local: str
    remote: str
    cluster_list: str
    local_list: str


ENDPOINTS = {
    "both": Row("ready", "ready", "LR", "L"),
    "only elsewhere": Row("", "ready", "R", "drop"),
    "only here": Row("ready", "", "L", "L"),
    "none": Row("", "", "reject", "reject"),
    "ending here, ready elsewhere": Row("ending", "ready", "R", "L"),
    "ready here, ending elsewhere": Row("ready", "ending", "L", "L"),
    "both ending": Row("ending", "ending", "LR", "L"),
    "ending elsewhere": Row("", "ending", "R", "drop"),
    "stopped here, ready elsewhere": Row("stopped", "ready", "R", "drop"),
    "none is usable": Row("unready", "serving", "reject", "reject"),
    "serving here, ready elsewhere": Row("serving", "ready", "R", "drop"),
    "published though it ends": Row("published", "unready", "L", "L"),
}

# kind, policy, client -> list, masquerade
CLUSTER_IP = [
    ("Cluster", "pod", "Cluster", False),
    ("Cluster", "node", "Cluster", True),
    ("Cluster", "outside", "Cluster", True),
    ("Local", "pod", "Local", False),
    ("Local", "node", "Local", True),
    ("Local", "outside", "Local", True),
]
EXTERNAL = [
    ("Cluster", "pod", "Cluster", True),
    ("Cluster", "node", "Cluster", True),
    ("Cluster", "outside", "Cluster", True),
    ("Local", "pod", "Cluster", False),
    ("Local", "node", "Cluster", True),
    ("Local", "outside", "Local", False),
]
TABLE = [("cluster", *row) for row in CLUSTER_IP] + [
    (kind, *row)
    for kind in EXTERNAL_KINDS
    for row in EXTERNAL
    if (kind, row[1]) != ("node", "node")
]
Start = Callable[[str], Pipeline]


@pytest.fixture(params=["TCP", "UDP", "SCTP"])
def protocol(request: pytest.FixtureRequest) -> str:
    return request.param


def wanted(who: Addresses, letters: str) -> set[str]:
    if letters in {"drop", "reject"}:
        return {letters}
    return {{"L": who.second_pod, "R": who.remote_pod}[letter] for letter in letters}


def endpoints_of(who: Addresses, row: Row) -> list[dict[str, Any]]:
    found = [endpoint(who.second_pod, row.local)] if row.local else []
    return found + ([endpoint(who.remote_pod, row.remote, "node2")] if row.remote else [])


CASES = [("both", name) for name in ("TCP", "UDP", "SCTP")]
CASES += [(states, "TCP") for states in ENDPOINTS if states != "both"]


@pytest.mark.parametrize(("states", "protocol"), CASES)
@pytest.mark.parametrize(("kind", "policy", "client", "chosen", "masquerade"), TABLE)
def test_lists_and_masquerade(
    opened: Pipeline,
    who: Addresses,
    protocol: str,
    kind: str,
    policy: str,
    client: str,
    chosen: str,
    masquerade: bool,
    states: str,
) -> None:
    row = ENDPOINTS[states]
    # The policy of the other kinds of frontends is always the other one: they must not be mixed up.
    other = {"Local": "Cluster", "Cluster": "Local"}[policy]
    policies = {
        "internalTrafficPolicy": policy if kind == "cluster" else other,
        "externalTrafficPolicy": other if kind == "cluster" else policy,
    }
    put(
        opened,
        service(who, protocol=protocol, **policies),
        endpoint_slice(who, endpoints_of(who, row), protocol=protocol),
    )
    letters = row.cluster_list if chosen == "Cluster" else row.local_list
    got = draw(opened, who, client, frontends(who)[kind], protocol, masquerade)
    assert got == wanted(who, letters)


@pytest.mark.parametrize("kind", ["cluster", *EXTERNAL_KINDS])
@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_a_pod_that_is_its_own_backend_is_hidden(
    opened: Pipeline, who: Addresses, protocol: str, kind: str, policy: str
) -> None:
    policies = {"internalTrafficPolicy": policy, "externalTrafficPolicy": policy}
    one = endpoint_slice(who, [endpoint(who.pod)], protocol=protocol)
    put(opened, service(who, protocol=protocol, **policies), one)
    assert draw(opened, who, "pod", frontends(who)[kind], protocol, masquerade=True) == {who.pod}


def test_cluster_ips_are_closed_to_the_outside(
    start: Callable[[str], Pipeline], who: Addresses, protocol: str
) -> None:
    pipeline = start("interface")
    put(
        pipeline,
        service(who, protocol=protocol),
        endpoint_slice(who, [endpoint(who.second_pod)], protocol=protocol),
    )
    frontend = frontends(who)["cluster"]
    assert draw(pipeline, who, "outside", frontend, protocol) == {"DROP_EXTERNAL_CLUSTER_IP"}
    assert draw(pipeline, who, "pod", frontend, protocol) == {who.second_pod}


DETECTORS = [
    # settings, client, kind, policy -> list, masquerade
    ("no detector", "pod", "cluster", "Cluster", "LR", False),
    ("no detector", "outside", "cluster", "Cluster", "LR", False),
    ("no detector", "node", "cluster", "Cluster", "LR", False),
    ("no detector", "pod", "balancer", "Local", "L", False),
    ("no detector", "node", "balancer", "Local", "LR", True),
    ("no detector", "pod", "node", "Cluster", "LR", True),
    ("pods' network", "pod", "cluster", "Cluster", "LR", False),
    ("pods' network", "pod", "node", "Local", "LR", False),
    ("other network", "pod", "cluster", "Cluster", "LR", True),
    ("other network", "pod", "node", "Local", "L", False),
    ("other network", "outside", "cluster", "Cluster", "LR", True),
    ("own network", "pod", "cluster", "Cluster", "LR", False),
    ("own network", "outside", "cluster", "Cluster", "LR", True),
    ("own network", "pod", "balancer", "Local", "LR", False),
    ("other's network", "pod", "cluster", "Cluster", "LR", False),
    ("other's network", "outside", "cluster", "Cluster", "LR", False),
    ("other's network", "node", "cluster", "Cluster", "LR", False),
    ("other's network", "pod", "balancer", "Local", "L", False),
    ("hidden", "pod", "cluster", "Cluster", "LR", True),
    ("hidden", "node", "cluster", "Local", "L", True),
    ("hidden", "pod", "balancer", "Local", "LR", False),
    ("hidden", "outside", "external", "Local", "L", False),
]


@pytest.mark.parametrize(("name", "client", "kind", "policy", "letters", "masquerade"), DETECTORS)
def test_detectors(
    start: Callable[[str], Pipeline],
    who: Addresses,
    name: str,
    client: str,
    kind: str,
    policy: str,
    letters: str,
    masquerade: bool,
) -> None:
    families = {"own network": who.version, "other's network": 10 - who.version}
    pipeline = start(f"IPv{families[name]}'s network" if name in families else name)
    policies = {"internalTrafficPolicy": policy, "externalTrafficPolicy": policy}
    put(
        pipeline,
        service(who, **policies),
        endpoint_slice(who, endpoints_of(who, ENDPOINTS["both"])),
    )
    got = draw(pipeline, who, client, frontends(who)[kind], masquerade=masquerade)
    assert got == wanted(who, letters)


def test_every_backend_of_three_gets_its_share(opened: Pipeline, who: Addresses) -> None:
    third = who.remote_pod[:-1] + "5"
    backends = [
        endpoint(who.second_pod),
        endpoint(who.remote_pod, node="n"),
        endpoint(third, node="n"),
    ]
    put(opened, service(who), endpoint_slice(who, backends))
    frontend = frontends(who)["cluster"]
    got = [connect(opened, who, "pod", frontend, "TCP", 40000 + n, False) for n in range(600)]
    assert len(got) == 600
    for backend in (who.second_pod, who.remote_pod, third):
        assert 130 < got.count(backend) < 270


def test_a_backend_on_the_node_sees_the_client(
    opened: Pipeline, who: Addresses, protocol: str
) -> None:
    """The node would take its own address for a forged one."""
    one = endpoint_slice(who, [endpoint(who.node)], protocol=protocol)
    put(opened, service(who, protocol=protocol), one)
    cases = [("outside", "node"), ("pod", "external"), ("outside", "cluster")]
    for port, (client, kind) in enumerate(cases, 40000):
        sent = (source_of(who, client), port, *frontends(who)[kind])
        seen = opened.run(HOOKS[client], bytes(segment(who, sent, protocol=protocol)))
        arrives = segment(who, (*sent[:2], who.node, TARGET), protocol=protocol)
        assert (seen.verdict, seen.packet) == (Verdict.PASS, bytes(arrives))
