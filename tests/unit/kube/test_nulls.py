# SPDX-License-Identifier: Apache-2.0
"""What is null is unset, in every field that is decoded; a value of a wrong type names its field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest
import yaml

from kubypass.kube import wire
from kubypass.kube.config_maps import read_config_map
from kubypass.kube.convert.converter import Converter
from kubypass.kube.convert.decode import Document, MalformedError, decode
from kubypass.kube.watch.resources import Resource

META: dict[str, Any] = {
    "name": "web", "namespace": "shop", "uid": "u", "creationTimestamp": "2024-01-01T00:00:00Z",
    "deletionTimestamp": "2024-01-01T00:00:00Z", "resourceVersion": "7",
    "labels": {"kubernetes.io/service-name": "web", "empty": "x"}, "annotations": {"a": "b"},
}  # fmt: skip
PORT = {
    "name": "http",
    "containerPort": 80,
    "hostPort": 8080,
    "hostIP": "192.0.2.1",
    "protocol": "TCP",
}
CONTAINER = {"name": "c", "restartPolicy": "Always", "ports": [PORT]}
OBJECTS: dict[str, dict[str, Any]] = {
    "Service": {
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ipFamilies": ["IPv4"],
            "externalIPs": ["203.0.113.1"], "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "name": "http", "protocol": "TCP", "nodePort": 30080}],
            "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}},
            "loadBalancerSourceRanges": ["10.0.0.0/8"], "healthCheckNodePort": 30081,
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.2", "ipMode": "VIP"}]}},
    },
    "EndpointSlice": {
        "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        "endpoints": [{
            "addresses": ["10.244.0.7"], "nodeName": "n1",
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "n1"}]},
        }],
    },
    "Node": {
        "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"], "taints": [{"key": "k"}]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
    },
    "Pod": {
        "spec": {
            "nodeName": "n1", "hostNetwork": False, "runtimeClassName": "kata",
            "containers": [CONTAINER], "initContainers": [CONTAINER],
        },
        "status": {"phase": "Running", "podIP": "10.244.0.7", "podIPs": [{"ip": "10.244.0.7"}]},
    },
}  # fmt: skip
VERSIONS = {kind: version for version, kind in wire.KINDS}


def whole(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(OBJECTS[kind]))
    return {
        "apiVersion": VERSIONS[kind],
        "kind": kind,
        "metadata": json.loads(json.dumps(META)),
        **found,
    }


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every field and every element below a value."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(item, (dict, list)):
            yield from paths(item, (*path, key))


FIELDS = [
    (kind, path)
    for kind in OBJECTS
    for path in paths(whole(kind))
    if path[0] not in {"apiVersion", "kind"} and "slash" not in path
]


def with_value(kind: str, path: tuple[Any, ...], value: object) -> dict[str, Any]:
    made = whole(kind)
    at: Any = made
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return made


def documents(made: dict[str, Any]) -> Iterator[Document]:
    """The document is tried as JSON and as YAML."""
    yield Document(made["apiVersion"], made["kind"], json.dumps(made).encode())
    parsed = yaml.load(yaml.safe_dump(made), Loader=yaml.CSafeLoader)
    yield Document(made["apiVersion"], made["kind"], parsed)


@pytest.mark.parametrize(("kind", "path"), FIELDS, ids=str)
def test_null_is_unset(kind: str, path: tuple[Any, ...]) -> None:
    for document in documents(with_value(kind, path, None)):
        notes: list[str] = []
        source, _ = decode(document, wire.KINDS[VERSIONS[kind], kind], notes)
        if path in {("metadata",), ("metadata", "name")}:
            assert source is None
            assert "metadata.name is missing" in notes[0]
            continue
        assert source is not None, notes
        Converter(every_pod=True).convert(source, notes)
        assert not any("Expected `" in note for note in notes)


def without(kind: str, path: tuple[Any, ...]) -> dict[str, Any]:
    """The object without a field or an element; in a map of texts null is the empty one."""
    if len(path) > 2 and path[-2] in {"labels", "annotations"}:
        return with_value(kind, path, "")
    made = whole(kind)
    at: Any = made
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    return made


def converted(document: Document) -> tuple[object, list[str]]:
    """What becomes of a document, and what is said of it."""
    notes: list[str] = []
    source, _ = decode(document, wire.KINDS[document.api_version, document.kind], notes)
    return source and Converter(every_pod=True).convert(source, notes), notes


@pytest.mark.parametrize(("kind", "path"), FIELDS, ids=str)
def test_null_is_the_same_as_left_out(kind: str, path: tuple[Any, ...]) -> None:
    """Each field and element counts, and what is said about the object is the same, too."""
    expected = [converted(one) for one in documents(without(kind, path))]
    assert [converted(one) for one in documents(with_value(kind, path, None))] == expected
    assert expected[0] == expected[1]


@pytest.mark.parametrize(("kind", "path"), FIELDS, ids=str)
def test_empty_and_wrong_values_are_read_or_named(kind: str, path: tuple[Any, ...]) -> None:
    for value in "", 0, -1, [], {}, True, 1.5, [None], {"a": None}:
        for document in documents(with_value(kind, path, value)):
            notes: list[str] = []
            source, _ = decode(document, wire.KINDS[VERSIONS[kind], kind], notes)
            if source is None:
                assert "Expected `" in notes[0] or "metadata.name is missing" in notes[0]
            else:
                Converter(every_pod=True).convert(source, notes)


def test_a_null_in_labels_is_an_empty_text() -> None:
    (document, _) = documents(with_value("Node", ("metadata", "labels", "empty"), None))
    node = document.decode(wire.Node)
    assert node.metadata
    assert node.metadata.labels == {"kubernetes.io/service-name": "web", "empty": ""}


def test_a_node_port_that_is_null() -> None:
    for document in documents(with_value("Service", ("spec", "ports", 0, "nodePort"), None)):
        assert document.decode(wire.Service).spec.ports[0].node_port is None  # type: ignore[union-attr, index]


def test_a_wrong_type_is_named_beside_a_null() -> None:
    made = with_value("Service", ("spec", "ports", 0, "name"), None)
    made["spec"]["ports"][0] |= {"port": "80", "protocol": None}
    for document in documents(made):
        with pytest.raises(
            MalformedError, match=r"Expected `int`, got `str` - at `\$\.spec\.ports\[0\]\.port`"
        ):
            document.decode(wire.Service)


def test_settings_that_are_null() -> None:
    content = {
        "metadata": {"name": "c", "labels": {"a": None}},
        "data": {"devices": None, "mtu": "1400"},
    }
    resource = Resource("configmaps", "ConfigMap", namespace="kube-system")
    update = read_config_map(resource, msgspec.Raw(json.dumps(content).encode()), deleted=False)
    ((_, found),) = update.objects
    assert found is not None
    assert found.values == {"devices": "", "mtu": "1400"}  # type: ignore[union-attr]


def fields_of(kind: Any) -> Iterator[tuple[str, ...]]:
    """The paths of all fields of a wire type, without the numbers of elements."""
    for field in msgspec.structs.fields(kind):
        yield (field.encode_name,)
        for part in (field.type, *get_args(field.type)):
            for one in (part, *get_args(part)):
                if isinstance(one, type) and issubclass(one, msgspec.Struct):
                    yield from ((field.encode_name, *rest) for rest in fields_of(one))


@pytest.mark.parametrize("kind", OBJECTS)
def test_the_objects_have_every_field_that_is_read(kind: str) -> None:
    there = {tuple(key for key in path if isinstance(key, str)) for path in paths(whole(kind))}
    assert set(fields_of(wire.KINDS[VERSIONS[kind], kind])) <= there
