# SPDX-License-Identifier: Apache-2.0
"""EndpointSlices as Kubernetes makes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from kubypass_lab.box.files import Json
from kubypass_lab.box.objects import Container, ContainerPort, Service
from kubypass_lab.box.record import PodRecord
from kubypass_lab.box.slices import plan_slices

POD = PodRecord(
    namespace="default",
    name="web-1",
    uid="1",
    node="node1",
    owner="deployment.apps_default_web",
    template="t",
    created=1.0,
    labels={"app": "web"},
    containers=(Container("web", "nginx", (ContainerPort(8080, "http"),)),),
    addresses=("10.233.64.14", "fd85::e"),
    interface="lxc1",
    state="ready",
)
OTHER_PORT = replace(
    POD,
    name="web-2",
    addresses=("10.233.65.14",),
    containers=(Container("web", "nginx", (ContainerPort(81, "http"),)),),
)


def slices(
    spec: Json,
    *pods: PodRecord,
    zones: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Slices of a Service that selects `app: web`."""
    ports = [{"port": 80, "targetPort": "http", "protocol": "TCP"}]
    full = {"ports": ports, "ipFamilies": ["IPv4"], "selector": {"app": "web"}, **spec}
    raw = {"metadata": {"name": "web", "labels": labels}, "spec": full}
    return [*plan_slices(msgspec.convert(raw, Service), pods, zones or {})]


def endpoints(each: Json) -> list[dict[str, Any]]:
    value = each["endpoints"]
    assert isinstance(value, list)
    return value


@pytest.mark.parametrize(
    ("state", "ready", "serving", "terminating"),
    [
        ("starting", False, False, False),
        ("ready", True, True, False),
        ("failed", False, False, False),
        ("terminating", False, True, True),
    ],
)
def test_conditions(state: str, ready: bool, serving: bool, terminating: bool) -> None:
    (only,) = slices({}, replace(POD, state=state))  # type: ignore[arg-type]
    (endpoint,) = endpoints(only)
    assert endpoint["conditions"] == {
        "ready": ready,
        "serving": serving,
        "terminating": terminating,
    }
    assert endpoint["addresses"] == ["10.233.64.14"]
    assert endpoint["nodeName"] == "node1"


def test_one_slice_for_each_family() -> None:
    both = slices({"ipFamilies": ["IPv4", "IPv6"]}, POD)
    assert [each["addressType"] for each in both] == ["IPv4", "IPv6"]
    assert [endpoints(each)[0]["addresses"] for each in both] == [["10.233.64.14"], ["fd85::e"]]


def test_named_port_may_differ_between_pods() -> None:
    both = slices({}, POD, OTHER_PORT)
    assert [each["ports"] for each in both] == [
        [{"name": "", "protocol": "TCP", "port": 8080}],
        [{"name": "", "protocol": "TCP", "port": 81}],
    ]
    names = {str(each["metadata"]) for each in both}
    assert len(names) == 2


@pytest.mark.parametrize("spec", [{"selector": {}}, {"type": "ExternalName"}])
def test_no_slices(spec: Json) -> None:
    assert slices(spec, POD) == []


def test_other_pods_are_not_selected() -> None:
    stranger = replace(POD, labels={"app": "other"})
    elsewhere = replace(POD, namespace="other")
    (only,) = slices({}, stranger, elsewhere)
    assert endpoints(only) == []


NEAR = replace(POD, name="web-3", node="node1", addresses=("10.233.64.15",))
FAR = replace(POD, name="web-4", node="node2", addresses=("10.233.65.15",))
ZONES = {"node1": "a", "node2": "b"}


@pytest.mark.parametrize(
    ("distribution", "zones", "states", "expected"),
    [
        (None, ZONES, "ready ready", "- -"),
        ("PreferClose", ZONES, "ready ready", "a b"),
        ("PreferSameZone", ZONES, "ready ready", "a b"),
        ("PreferSameNode", ZONES, "ready ready", "a/node1 b/node2"),
        ("PreferClose", {"node1": "a"}, "ready ready", "- -"),
        ("PreferClose", ZONES, "ready failed", "a -"),
        ("PreferClose", {"node1": "a"}, "ready terminating", "a -"),
    ],
)
def test_hints(distribution: str | None, zones: dict[str, str], states: str, expected: str) -> None:
    pods = [
        replace(pod, state=state)  # type: ignore[arg-type]
        for pod, state in zip((NEAR, FAR), states.split(), strict=True)
    ]
    (found,) = slices({"trafficDistribution": distribution}, *pods, zones=zones)
    words = []
    for endpoint in found["endpoints"]:
        hints = endpoint.get("hints", {})
        names = [each["name"] for kind in hints.values() for each in kind]
        words.append("/".join(names) or "-")
        assert endpoint.get("zone", "") == zones.get(endpoint["nodeName"], "")
    assert " ".join(words) == expected


def test_labels_of_the_service() -> None:
    (found,) = slices({}, labels={"app": "x", "kubernetes.io/service-name": "other"})
    labels = found["metadata"]["labels"]
    assert labels["app"] == "x"
    assert labels["kubernetes.io/service-name"] == "web"
    assert "service.kubernetes.io/headless" not in labels
    (found,) = slices({"clusterIP": "None"})
    assert "service.kubernetes.io/headless" in found["metadata"]["labels"]
