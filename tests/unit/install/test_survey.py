# SPDX-License-Identifier: Apache-2.0
"""What is said about a cluster before anything is put into it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from kubypass.install.chart import default_values
from kubypass.install.survey import Policies, Survey, api_server, remarks


def survey(
    nodes: Iterable[dict[str, Any]] = (),
    daemon_sets: Iterable[dict[str, Any]] = (),
    policies: Iterable[Policies] = (),
) -> Survey:
    servers = (("192.168.1.10", 6443), ("192.168.1.11", 6443))
    own = ("10.96.0.1", "fd00::1")
    return Survey("v1.34.4", tuple(nodes), tuple(daemon_sets), own, servers, tuple(policies))


def node(
    name: str = "n1",
    kernel: str = "6.1.0",
    pod_cidrs: Iterable[str] = ("10.244.0.0/24",),
    labels: dict[str, str] | None = None,
) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": labels or {"kubernetes.io/os": "linux"}},
        "spec": {"podCIDRs": list(pod_cidrs)},
        "status": {"nodeInfo": {"kernelVersion": kernel}},
    }


def daemon_set(name: str, namespace: str = "kube-system") -> dict[str, Any]:
    pod = {"containers": [{"image": f"{name}:1"}]}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"template": {"spec": pod}}}


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("203.0.113.1", ("203.0.113.1", 443)),
        ("api.example.org", ("api.example.org", 443)),
        ("127.0.0.1", ("192.168.1.10", 6443)),
        ("::1", ("192.168.1.10", 6443)),
        ("localhost", ("192.168.1.10", 6443)),
        ("10.96.0.1", ("192.168.1.10", 6443)),
    ],
)
def test_nodes_are_given_an_address_that_they_reach(host: str, wanted: tuple[str, int]) -> None:
    assert api_server(survey(), host, 443) == wanted


@pytest.mark.parametrize(
    ("version", "enabled", "stops"),
    [
        ("v1.29.9", True, True),
        ("v1.29.9", False, False),
        ("v1.30.0", True, False),
        ("", True, False),
    ],
)
def test_a_server_without_policies(version: str, *, enabled: bool, stops: bool) -> None:
    found = Survey(version, (node(),), (), (), ())
    values = {**default_values(), "k8sServiceHost": "192.168.1.10", "admissionPolicy": enabled}
    said = [each for each in remarks(found, values) if "admissionPolicy=false" in each.text]
    assert [each.level for each in said] == ["stop"] * stops


def test_servers_are_named_as_one_dials_them() -> None:
    servers = (("192.168.1.10", 6443), ("fd00::10", 6443))
    found = Survey("v1.34.4", (node(),), (), ("fd00::1",), servers)
    (said,) = remarks(found, {**default_values(), "k8sServiceHost": "fd00::1"})
    assert "(192.168.1.10:6443, [fd00::10]:6443)" in said.text


ROWS = {
    "a good cluster": (survey([node()]), {}, []),
    "no node": (survey(), {}, ["stop: none of 0 nodes"]),
    "other nodes": (survey([node(labels={"kubernetes.io/os": "windows"})]), {}, ["stop: none of 1 nodes"]),
    "an old kernel": (survey([node(kernel="5.4.0-1-generic")]), {}, ["stop: node n1 runs Linux 5.4.0-1-generic"]),
    "the oldest kernel": (survey([node(kernel="5.10.0")]), {"privileged": True}, []),
    "the oldest kernel without privileges": (
        survey([node(kernel="5.10.0")]), {}, ["stop: node n1 runs Linux 5.10.0: before 5.11 an agent has"],
    ),
    "a wrong setting": (
        survey([node()]),
        {"config": {"kube-proxy-replacement": "maybe"}},
        ["stop: config: kube-proxy-replacement: 'maybe': expected"],
    ),
    "an unknown setting": (survey([node()]), {"config": {"kube-proxy": "true"}}, ["note: config: kube-proxy"]),
    "a security setting without effect": (
        survey([node()]),
        {"config": {"enable-policy": "always"}},
        ["note: config: enable-policy: 'always': no effect: kubypass enforces no NetworkPolicy"],
    ),
    "the service's address": (survey([node()]), {"k8sServiceHost": "10.96.0.1"}, ["stop: k8sServiceHost 10.96.0.1"]),
    "no podCIDR": (survey([node(pod_cidrs=())]), {}, ["note: node n1 has no podCIDR"]),
    "no podCIDR, another CNI": (survey([node(pod_cidrs=())]), {"cni": {"enabled": False}}, []),
    "kube-proxy": (survey([node()], [daemon_set("kube-proxy")]), {}, ["note: kube-proxy runs"]),
    "Calico": (
        survey([node()], [daemon_set("calico-node", "calico-system")]),
        {},
        ["note: Calico is there (calico-system/calico-node)"],
    ),
    "kubypass": (survey([node()], [daemon_set("kubypass")]), {}, ["note: kubypass is there already (kubypass:1)"]),
    "network policies": (
        survey([node()], policies=[Policies("NetworkPolicy", tuple(sorted(f"shop/p{n}" for n in range(12))))]),
        {},
        ["note: 12 of kind NetworkPolicy (shop/p0, shop/p1, shop/p10, shop/p11, shop/p2, shop/p3, "],
    ),
    "network policies that may not be listed": (
        survey([node()], policies=[Policies("NetworkPolicy", (), "forbidden")]),
        {},
        ["note: whether there are objects of kind NetworkPolicy is not known: forbidden; kubypass enforces none"],
    ),
    "what stops comes first": (
        survey([node(kernel="4.19")], [daemon_set("kube-proxy")]),
        {},
        ["stop: node n1", "note: kube-proxy runs"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("found", "values", "wanted"), ROWS.values(), ids=ROWS)
def test_remarks(found: Survey, values: dict[str, object], wanted: list[str]) -> None:
    said = [f"{each.level}: {each.text}" for each in remarks(found, {**default_values(), **values})]
    assert len(said) == len(wanted)
    assert all(line.startswith(start) for line, start in zip(said, wanted, strict=True)), said
