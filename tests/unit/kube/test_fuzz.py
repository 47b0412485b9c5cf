# SPDX-License-Identifier: Apache-2.0
"""No manifest causes a traceback or takes long: a wrong part is a problem, and the rest is read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kubypass.kube.manifests.manifest_source import ManifestSource
from kubypass.kube.manifests.parser import EMPTY, Parser
from kubypass.plan.cidrs import Overlaps
from kubypass.plan.conflicts import Claims
from kubypass.plan.host_ports import plan_host_ports
from kubypass.plan.items import PlanNode
from kubypass.plan.services import plan_service
from kubypass.settings.settings import Settings
from kubypass_lab.box.patience import SLOWNESS
from tests.unit.kube.bombs import BOMBS

LIMIT_S = 5.0 * SLOWNESS
"""A limit far above the time of any file here; a bomb that works takes minutes or all memory."""

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {
        "name": "web",
        "namespace": "default",
        "uid": "1",
        "creationTimestamp": "2024-01-01T00:00:00Z",
        "labels": {"app": "web"},
        "annotations": {
            "service.cilium.io/type": "NodePort",
            "service.cilium.io/node-selector": "zone in (a, b), !gone",
            "service.cilium.io/src-ranges-policy": "deny",
        },
    },
    "spec": {
        "type": "LoadBalancer",
        "clusterIP": "10.96.0.1",
        "clusterIPs": ["10.96.0.1", "fd00::1"],
        "ipFamilies": ["IPv4", "IPv6"],
        "externalIPs": ["198.51.100.1"],
        "externalTrafficPolicy": "Local",
        "internalTrafficPolicy": "Cluster",
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
        "loadBalancerSourceRanges": ["203.0.113.0/24", " 2001:db8::/32"],
        "healthCheckNodePort": 30001,
        "ports": [
            {"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080, "targetPort": "web"},
            {"name": "dns", "port": 53, "protocol": "UDP"},
        ],
    },
    "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.2", "ipMode": "VIP"}]}},
}
SLICE = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    "endpoints": [
        {
            "addresses": ["10.0.0.1"],
            "nodeName": "node1",
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "node1"}]},
        }
    ],
}
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "node1", "labels": {"topology.kubernetes.io/zone": "a"}},
    "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24", "fd01::/64"]},
    "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web-0", "deletionTimestamp": "2024-01-01T00:00:00Z"},
    "spec": {
        "nodeName": "node1",
        "hostNetwork": False,
        "containers": [
            {
                "name": "web",
                "ports": [
                    {"containerPort": 80, "hostPort": 8080, "hostIP": "192.0.2.1"},
                    {"containerPort": 53, "hostPort": 8053, "protocol": "UDP"},
                ],
            }
        ],
        "initContainers": [{"name": "side", "restartPolicy": "Always", "ports": [{}]}],
    },
    "status": {
        "phase": "Running",
        "podIP": "10.0.0.7",
        "podIPs": [{"ip": "10.0.0.7"}, {"ip": "fd01::7"}],
    },
}
OBJECTS = [SERVICE, SLICE, NODE, POD]

BIG = 2**70
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 65535, 65536, 2**31, 2**63, BIG, -BIG, 0.5, 1e308, float("nan"), float("inf"),
    "", " ", "None", "null", "80", "Local", "TCP", "\0", "\ud800", "é" * 99, "a" * 100_000, "0x10", "1e9",
    "10.96.0.1", "010.096.000.001", "256.1.1.1", "1.2.3.4.5", "000.0.0.0", "127.0.0.1", "::", "::1", "fe80::1%eth0",
    "::ffff:1.2.3.4", "224.0.0.1", "ff02::1", "10.0.0.0/33", "10.0.0.0/-1", "::/129", "0/0", "/", "9" * 5000,
    "in (a", "!", "!!a", "a in ()", "a,,b", "==", "key notin (" + "a," * 500 + ")", "ClusterIP,Foo",
    "ClusterIP, NodePort",
    [], {}, [None], [[]], [{}], {"": None}, {"a": {"b": {"c": []}}}, [1, "a", None, {}], ["10.0.0.1"] * 50,
]  # fmt: skip


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """A path to some field of an object."""
    found = [path]
    if isinstance(value, dict):
        found += [p for key, inner in value.items() for p in paths(inner, (*path, key))]
    elif isinstance(value, list):
        found += [p for index, inner in enumerate(value) for p in paths(inner, (*path, index))]
    return found


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The object with another value at `path`, which may not exist any more."""
    if not path:
        return deepcopy(new)
    try:
        inner = value[path[0]]
    except (KeyError, IndexError, TypeError):
        return value
    value[path[0]] = put(inner, path[1:], new)
    return value


anything = st.recursive(
    st.sampled_from(VALUES) | st.text(max_size=20) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@st.composite
def mutants(draw: st.DrawFn) -> list[Any]:
    """Draws some objects with wrong parts."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        mutant = deepcopy(draw(st.sampled_from(OBJECTS)))
        for _ in range(draw(st.integers(1, 4))):
            mutant = put(mutant, draw(st.sampled_from(paths(mutant))), draw(anything))
        found.append(mutant)
    return found


def understand(content: bytes, *, json_file: bool) -> int:
    """Reads a file over a good one and plans what it says; returns the number of problems."""
    label = "a.json" if json_file else "a.yaml"
    parser = Parser()
    good = parser.parse("b.yaml", yaml.safe_dump_all(OBJECTS).encode(), EMPTY)
    assert len(good.objects) == len(OBJECTS)
    found = parser.parse(label, content, good)
    for contents in (found, parser.parse(label, content, EMPTY)):
        plan_all(contents.objects.values())
    text = "\n".join(map(str, found.problems))
    assert text.count("\n") == max(0, len(found.problems) - 1), "one line each"
    assert all(len(str(problem)) < 20_000 for problem in found.problems)
    return len(found.problems)


def plan_all(objects: Any) -> None:
    """Plans the objects as the agent does."""
    node = PlanNode("node1", (), "a", frozenset(), {"zone": "a"})
    by_kind: dict[str, list[Any]] = {}
    for found in objects:
        by_kind.setdefault(type(found).__name__, []).append(found)
    claims = Claims()
    services = by_kind.get("Service", [])
    plans = [
        (s.key, plan_service(s, by_kind.get("EndpointSlice", []), node, Settings()))
        for s in services
    ]
    plans += [(p.key, plan_host_ports(p, node, Settings())) for p in by_kind.get("HostPortPod", [])]
    for key, plan in plans:
        claims.replace(key, plan)
    for key, plan in plans:
        claims.settle(key, plan)
    Overlaps(by_kind.get("Node", []), {s.key: s for s in services}, Settings()).problems()


def in_time(work: Callable[[], object]) -> None:
    started = time.process_time()
    work()
    assert time.process_time() - started < LIMIT_S


@given(mutants())
@settings(max_examples=400)
def test_wrong_values_anywhere_as_json(objects: list[Any]) -> None:
    lists = [objects[0], {"apiVersion": "v1", "kind": "List", "items": objects}]
    for document in lists:
        content = json.dumps(document, ensure_ascii=True).encode()
        in_time(partial(understand, content, json_file=True))


@given(mutants())
@settings(max_examples=150)
def test_wrong_values_anywhere_as_yaml(objects: list[Any]) -> None:
    content = yaml.safe_dump_all(objects, allow_unicode=False).encode("utf-8", "surrogatepass")
    in_time(lambda: understand(content, json_file=False))


@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: str(value["kind"]))
def test_every_value_at_every_path(value: dict[str, Any]) -> None:
    """Tries each of the values at each path of each object, without chance."""
    parser = Parser()
    for path in paths(value):
        for new in VALUES:
            mutant = put(deepcopy(value), path, new)
            content = json.dumps(mutant).encode()
            plan_all(parser.parse("a.json", content, EMPTY).objects.values())


@given(st.data())
@settings(max_examples=300)
def test_bytes_that_are_cut_or_changed(data: st.DataObject) -> None:
    json_file = data.draw(st.booleans())
    text = json.dumps(SERVICE) if json_file else yaml.safe_dump_all(OBJECTS)
    content = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 5))):
        position = data.draw(st.integers(0, len(content) - 1))
        length = data.draw(st.integers(0, 3))
        content[position : position + length] = data.draw(st.binary(max_size=3))
        content = content or bytearray(b"{")
    in_time(lambda: understand(bytes(content), json_file=json_file))


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=300)
def test_any_bytes(content: bytes, json_file: bool) -> None:
    in_time(lambda: understand(content, json_file=json_file))


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str, tmp_path: Path) -> None:
    """Reads the bombs alone, and beside good files, which are read all the same."""
    in_time(lambda: understand(BOMBS[name], json_file=name.endswith(".json")))
    (tmp_path / name).write_bytes(BOMBS[name])
    (tmp_path / "good.yaml").write_bytes(yaml.safe_dump_all(OBJECTS).encode())
    source = ManifestSource(tmp_path)
    in_time(source.scan)
    snapshot = source.snapshot()
    assert ("default", "web") in snapshot.services
    assert "node1" in snapshot.nodes
    assert ("default", "pod/web-0") in snapshot.pods
