# SPDX-License-Identifier: Apache-2.0
"""Clusters of both families, and of IPv6 alone: nodes, pods, services, and every path between them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from kubypass_lab.box.kubernetes.cluster import Cluster
from kubypass_lab.box.kubernetes.kubectl import get_items, kubectl
from tests.kubernetes.conftest import EXAMPLES, in_a_box
from tests.kubernetes.connectivity import on, run, wait_namespace_gone


@pytest.fixture(scope="module", params=["dual-stack", "ipv6-only"])
def families(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Two nodes that kubypass serves."""
    yield from in_a_box("families", 2, "kubypass", EXAMPLES / f"families/{request.param}.yaml")


def versions(addresses: Iterable[str]) -> tuple[int, ...]:
    return tuple(ip_address(each).version for each in addresses)


def test_nodes_pods_and_services_have_addresses_of_each(families: Cluster) -> None:
    wanted = families.topology.families
    nodes: list[dict[str, Any]] = [*get_items(families.paths, "nodes")]
    for node in nodes:
        assert tuple(ip_network(each).version for each in node["spec"]["podCIDRs"]) == wanted
    of_dns = ("-n", "kube-system", "-l", "k8s-app=kube-dns")
    pods: list[dict[str, Any]] = [*get_items(families.paths, "pods", *of_dns)]
    assert pods
    for pod in pods:
        assert versions(each["ip"] for each in pod["status"]["podIPs"]) == wanted
    (dns,) = get_items(families.paths, "services", *of_dns)
    spec: Any = dns["spec"]
    assert set(versions(spec["clusterIPs"])) <= set(wanted)


def test_every_path(families: Cluster) -> None:
    done = run(families, "connectivity", "test", "-o", "json")
    said = json.loads(done.stdout)
    assert [row for row in said["paths"] if not row["passed"]] == []
    assert done.returncode == 0
    targets = [row["to"] for row in said["paths"] if row["protocol"] in {"tcp", "udp"}]
    tried = {6 if each.startswith("[") else 4 for each in targets}
    assert tried == set(families.topology.families)
    wait_namespace_gone(families)


def test_nothing_of_kube_proxys(families: Cluster) -> None:
    """The guide's proof, for each family."""
    for node in families.nodes:
        for save in ("iptables-save", "ip6tables-save"):
            assert "KUBE-SVC" not in on(families, node.name, save)
    command = ("-n", "kube-system", "exec", "ds/kubypass", "--", "kubypass", "status", "-o", "json")
    status = json.loads(kubectl(families.paths, *command))
    assert not status["problems"]
