# SPDX-License-Identifier: Apache-2.0
"""Problems are Events where a user looks: real API servers take them, with the permissions of the agent's role."""

from __future__ import annotations

from typing import Any

from kubypass.kube.client.permissions import CLUSTER_RULES
from tests.kubernetes.cluster import NODE, Cluster
from tests.waiting import wait


def events(cluster: Cluster, kind: str) -> list[dict[str, Any]]:
    """The Events of problems about objects of this kind."""
    items = cluster.servers.curl("/api/v1/namespaces/default/events")[1]["items"]
    return [item for item in items if item["reason"] == f"{kind}Problem"]


def two_that_want_one_address(cluster: Cluster) -> None:
    for name in ("web", "zweb"):
        address = "10.96.1.1" if name == "web" else "10.96.1.2"
        cluster.service(name, address, externalIPs=["192.0.2.7"])


def test_a_problem_of_a_service_is_an_event_that_describe_finds(cluster: Cluster) -> None:
    with cluster.agent("--kubeconfig", str(cluster.account())):
        two_that_want_one_address(cluster)
        (event,) = wait(lambda: events(cluster, "Service"), "the event", 60)
        _, service = cluster.servers.curl("/api/v1/namespaces/default/services/zweb")
        assert event["involvedObject"] == {
            "apiVersion": "v1",
            "kind": "Service",
            "namespace": "default",
            "name": "zweb",
            "uid": service["metadata"]["uid"],
        }
        assert event["message"].startswith("wants 192.0.2.7:80/TCP")
        assert event["type"] == "Warning"
        assert event["source"] == {"component": "kubypass", "host": NODE}
    with cluster.agent("--kubeconfig", str(cluster.account())):
        wait(lambda: "problem subject" in cluster.said(), "the same problem, after a restart")
        wait(lambda: cluster.problems() and len(cluster.problems()) == 1, "no trouble with writing")
        assert len(events(cluster, "Service")) == 1


def test_events_that_are_forbidden_are_a_problem_until_they_are_allowed(cluster: Cluster) -> None:
    cluster.allow([rule for rule in CLUSTER_RULES if rule.resource != "events"])
    with cluster.agent("--kubeconfig", str(cluster.account())):
        two_that_want_one_address(cluster)
        wait(
            lambda: any("cannot create events" in line for line in cluster.problems()), "it is said"
        )
        assert events(cluster, "Service") == []
        cluster.allow(CLUSTER_RULES)
        wait(lambda: len(cluster.problems()) == 1, "it goes on by itself", 90)
        wait(lambda: events(cluster, "Service") or events(cluster, "Node"), "an event", 60)
