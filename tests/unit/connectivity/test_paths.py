# SPDX-License-Identifier: Apache-2.0
"""Which paths are tried, and what is made of the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import pytest

from kubypass.connectivity.judge import judge, new_drops, parse_drops
from kubypass.connectivity.objects import Deployment, objects
from kubypass.connectivity.paths import NodePods, Path, ServiceAddresses, plan_paths

A = NodePods("a", "n1", {4: "10.0.0.2", 6: "fd00::2"}, {4: "192.168.1.1", 6: "fd01::1"})
B = NodePods("b", "n2", {4: "10.0.1.2", 6: "fd00::1:2"}, {4: "192.168.1.2", 6: "fd01::2"})
PORTS = {"tcp": 30001, "udp": 30001}


def services(*families: int) -> dict[str, ServiceAddresses]:
    addresses = {4: "10.96.0.", 6: "fd02::"}
    names = ("all", "pod-a", "pod-b", "local")
    return {
        name: ServiceAddresses(
            {family: f"{addresses[family]}{number}" for family in families}, PORTS
        )
        for number, name in enumerate(names, 1)
    }


def rows(
    nodes: Iterable[NodePods] = (A, B),
    families: Iterable[int] = (4, 6),
    *,
    has_dns: bool = True,
    outside: Sequence[tuple[str, int]] = (),
) -> list[Path]:
    return plan_paths(tuple(nodes), services(*families), has_dns=has_dns, outside=outside)


def test_no_path_is_tried_twice() -> None:
    found = rows()
    assert len(found) == len(set(found))


def test_both_families_have_the_same_paths() -> None:
    found = Counter(
        (each.source, each.what, each.protocol) for each in rows() if ":" not in each.host
    )
    other = Counter((each.source, each.what, each.protocol) for each in rows() if ":" in each.host)
    assert {key: count for key, count in found.items() if key[2] != "dns"} == other


@pytest.mark.parametrize("node", [A, B], ids=["a", "b"])
def test_every_kind_of_path_is_among_them(node: NodePods) -> None:
    found = {
        (each.source[:4], each.what, each.protocol)
        for each in rows()
        if each.source[-1] == node.letter
    }
    kinds = {
        ("pod-", "pod, other node"),
        ("host", "pod, own node"),
        ("host", "pod, other node"),
        ("pod-", "ClusterIP, hairpin"),
        ("pod-", "ClusterIP, pod on other node"),
        ("pod-", "ClusterIP, all pods"),
        ("host", "ClusterIP, pod on own node"),
        ("host", "ClusterIP, pod on other node"),
        ("host", "NodePort on localhost, pod on other node"),
        ("pod-", "hostPort of own node"),
        ("host", "hostPort of other node"),
        *(
            (source, f"NodePort of {via} node, pod on {backend} node")
            for source in ("pod-", "host")
            for via in ("own", "other")
            for backend in ("own", "other")
        ),
    }
    assert {(*kind, protocol) for kind in kinds for protocol in ("tcp", "udp")} <= found
    assert ("pod-", "DNS, a service's name", "dns") in found


def test_one_node_has_no_path_to_another() -> None:
    found = rows([A])
    assert not [each for each in found if "other node" in each.what]
    assert {each.source for each in found} == {"pod-a", "host-a"}


def test_a_cluster_of_one_family() -> None:
    four = NodePods("a", "n1", {4: "10.0.0.2"}, {4: "192.168.1.1", 6: "fd01::1"})
    assert not [each for each in rows([four], [4]) if ":" in each.host]


def test_outside_is_dialled_from_a_pod_and_a_node() -> None:
    found = [each for each in rows(outside=[("192.0.2.1", 443)]) if each.what == "outside"]
    assert [(each.source, each.host, each.port) for each in found] == [
        ("pod-a", "192.0.2.1", 443),
        ("host-a", "192.0.2.1", 443),
    ]


TO_A = Path("pod-b", "pod", "tcp", "10.0.0.2", 80, frozenset(["pod-a"]), client="10.0.1.2")
SILENT = Path("host-a", "Local", "tcp", "192.168.1.2", 30001, tries=1, silent=True)
NAME = Path("pod-a", "DNS", "dns", "all.x", 0)


def answer(pod: str = "pod-a", client: str = "10.0.1.2") -> dict[str, object]:
    return {"pod": pod, "client": client, "ms": 1.25}


@pytest.mark.parametrize(
    ("path", "said", "passed", "detail"),
    [
        (TO_A, {"answers": [answer()] * 6}, True, "pod-a, 1.2 ms"),
        (
            TO_A,
            {"answers": [answer()], "failures": ["no answer"] * 2},
            False,
            "no answer (2x) (1 of 6 answered)",
        ),
        (TO_A, {"answers": [answer("pod-x")]}, False, "answered by pod-x; expected pod-a"),
        (
            TO_A,
            {"answers": [answer(client="192.168.1.2")]},
            False,
            "the pod sees 192.168.1.2; expected the client's own 10.0.1.2",
        ),
        (
            TO_A,
            {"failures": ["pod-b cannot be asked: away"]},
            False,
            "pod-b cannot be asked: away (0 of 6 answered)",
        ),
        (SILENT, {"answers": [], "failures": ["no answer"]}, True, "no answer"),
        (SILENT, {"answers": [answer()]}, False, "answered by pod-a; expected no answer"),
        (
            SILENT,
            {"failures": ["host-a cannot be asked: away"]},
            False,
            "host-a cannot be asked: away",
        ),
        (NAME, {"addresses": ["10.96.0.1"]}, True, "10.96.0.1"),
        (NAME, {"addresses": [], "failures": ["no such name"]}, False, "no such name"),
    ],
)
def test_what_is_made_of_an_answer(
    path: Path, said: dict[str, object], passed: bool, detail: str
) -> None:
    result = judge(path, said)
    assert (result.passed, result.detail) == (passed, detail)


def test_drops_between_two_looks() -> None:
    text = (
        "# TYPE kubypass_drops_total counter\n"
        'kubypass_drops_total{hook="from_pod",reason="no_route"} 3\n'
        'kubypass_drops_total{hook="from_uplink",reason="no_backend"} 1\n'
    )
    after = parse_drops(text)
    before = Counter({"from_pod: no_route": 1, "from_uplink: no_backend": 1})
    assert new_drops("n1", before, after) == ("n1: from_pod: no_route, 2 packets",)


def test_every_object_is_in_the_namespace_that_is_removed() -> None:
    found = objects(Deployment(("n1", "n2"), "image:1", "secret"))
    assert found[0]["kind"] == "Namespace"
    assert {each["metadata"].get("namespace") for each in found[1:]} == {
        found[0]["metadata"]["name"]
    }
    assert [each["metadata"]["name"] for each in found if each["kind"] == "Pod"] == [
        "pod-a", "host-a", "pod-b", "host-b",
    ]  # fmt: skip
