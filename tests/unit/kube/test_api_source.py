# SPDX-License-Identifier: Apache-2.0
"""How watch events change the store, and which changes are reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kubypass.kube.client.writer import EVENTS_A_MINUTE, Subject, Writer
from kubypass.kube.convert.converter import Converter
from kubypass.kube.watch.api_source import ApiSource
from kubypass.kube.watch.resources import (
    NODES,
    ObjectUpdate,
    Resource,
    read_object,
    watched_resources,
)
from kubypass.kube.watch.watch_events import Failed, Interrupted, ListFinished, ListStarted, Objects
from tests.unit.kube.api_lists import PODS, SERVICES, SLICES, client, list_all, new_source

CONVERTER = Converter()
WEB = ("default", "web")


@pytest.fixture
def source() -> ApiSource:
    return new_source()


def item(resource: Resource, name: str, *, gone: bool = False, **fields: Any) -> ObjectUpdate:
    metadata = {"name": name, "namespace": "default", "resourceVersion": "5"}
    metadata |= fields.pop("metadata", {})
    content = msgspec.Raw(json.dumps({"metadata": metadata, **fields}).encode())
    return read_object(resource, CONVERTER, content, gone)


def service(name: str, address: str = "10.96.0.1", **options: bool) -> ObjectUpdate:
    return item(SERVICES, name, spec={"clusterIP": address, "ports": [{"port": 80}]}, **options)


def web_slice(*addresses: str, **annotations: str) -> ObjectUpdate:
    labels = {"kubernetes.io/service-name": "web"}
    return item(
        SLICES,
        "web-1",
        metadata={"labels": labels, "annotations": annotations},
        addressType="IPv4",
        endpoints=[{"addresses": [address]} for address in addresses],
    )


def test_only_differences_are_told_and_what_is_missing_from_a_list_is_gone(
    source: ApiSource,
) -> None:
    list_all(source, services=[service("web"), service("old", "10.96.0.2")])
    assert source.take() == {WEB, ("default", "old")}
    assert source.configured
    snapshot = source.snapshot()
    before = snapshot.services[WEB]
    list_all(source, services=[service("web")])
    assert source.take() == {("default", "old")}
    assert set(snapshot.services) == {WEB}
    assert snapshot.services[WEB] is before


def test_a_list_that_breaks_takes_nothing_away(source: ApiSource) -> None:
    list_all(source, services=[service("web")])
    source.take()
    source._report(SERVICES, ListStarted())
    source._report(SERVICES, Interrupted("broken"))
    source._report(SERVICES, ListStarted())
    assert source.take() == set()
    assert WEB in source.snapshot().services
    source._report(SERVICES, ListFinished())
    assert source.take() == {WEB}


def test_an_object_that_becomes_unreadable_stays_as_it_was(source: ApiSource) -> None:
    list_all(source, services=[service("web")])
    source.take()
    broken = item(SERVICES, "web", spec={"ports": "none"})
    source._report(SERVICES, Objects([broken]))
    assert source.take() == set()
    assert WEB in source.snapshot().services
    (problem,) = [p for p in source.problems() if p.subject == "Service default/web"]
    assert "ports" in problem.message
    source._report(SERVICES, Objects([service("web", gone=True)]))
    assert source.take() == {WEB}
    assert not [p for p in source.problems() if p.subject == "Service default/web"]


def test_causes_of_changes_are_passed_on_once_everything_is_known(source: ApiSource) -> None:
    said = {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"}
    list_all(source, endpointslices=[web_slice("10.1.0.1", **said)])
    source.take()
    source._watches_all = True
    assert source.complete
    source._report(SLICES, Objects([web_slice("10.1.0.2", **said)]))
    source._report(SLICES, Objects([web_slice("10.1.0.2", **said)]))
    source.take()
    assert source.triggers == [(WEB, "2026-01-01T00:00:00Z")]


def test_pods_have_metadata_and_some_have_ports(source: ApiSource) -> None:
    made = item(
        PODS,
        "a",
        metadata={"labels": {"app": "a"}, "uid": "u"},
        spec={"nodeName": "node1", "runtimeClassName": "vm"},
    )
    source._report(PODS, Objects([made]))
    assert source.take() == set()
    assert source.changed_pods
    metadata = source.snapshot().pod_metadata["default", "a"]
    assert (metadata.labels, metadata.runtime_class) == ({"app": "a"}, "vm")
    source._report(PODS, Objects([item(PODS, "a", gone=True)]))
    source.take()
    assert not source.snapshot().pod_metadata


def test_one_reason_of_several_resources_is_one_problem(source: ApiSource) -> None:
    for resource in (NODES, SERVICES, SLICES, PODS):
        source._report(resource, Interrupted("connection refused"))
    source.take()
    (problem,) = source.problems()
    assert problem.message == "no nodes, services, endpointslices, pods: connection refused"
    assert source.connection.reason == "connection refused"


def test_a_fault_of_ours_ends_the_agent(source: ApiSource) -> None:
    source._report(SERVICES, Failed(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        source.take()


def test_events_are_so_many_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    writer = Writer(client(), "node1", lambda: now[0])
    monkeypatch.setattr(writer, "_put", lambda _: None)
    subject = Subject("Service", *WEB)
    assert [writer.event(subject, "Reason", "text") for _ in range(EVENTS_A_MINUTE + 1)] == [
        *[True] * EVENTS_A_MINUTE,
        False,
    ]
    now[0] += 60.0
    assert writer.event(subject, "Reason", "text")


def test_a_taint_is_named_by_its_index_last_first(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(client(), "node 1")
    written: list[Any] = []
    monkeypatch.setattr(writer, "_put", written.append)
    writer.remove_taint("t", ("a", "t", "b", "t"))
    writer.remove_taint("t", ("t",))  # one at a time
    (write,) = written
    assert (write.method, write.path) == ("PATCH", "/api/v1/nodes/node%201")
    assert [(each["op"], each["path"]) for each in json.loads(write.body)] == [
        ("test", "/spec/taints/3/key"),
        ("remove", "/spec/taints/3"),
        ("test", "/spec/taints/1/key"),
        ("remove", "/spec/taints/1"),
    ]


def test_the_paths_of_what_is_watched_resources() -> None:
    name = "service.kubernetes.io%2Fservice-proxy-name"
    headless = "%2C%21service.kubernetes.io%2Fheadless"
    assert SERVICES.path() == f"/api/v1/services?labelSelector=%21{name}{headless}"
    other = watched_resources("node1", "mine")[1]
    group = "/apis/discovery.k8s.io/v1/endpointslices"
    assert other.path() == f"{group}?labelSelector={name}%3Dmine{headless}"
    assert PODS.path(("watch", "1")) == "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode1&watch=1"
    assert Path(NODES.path()) == Path("/api/v1/nodes")
