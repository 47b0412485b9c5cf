# SPDX-License-Identifier: Apache-2.0
"""A wrong annotation changes nothing: what it said last stays in use, and a problem says so."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from kubypass.kube.convert.converter import Converter
from kubypass.kube.manifests.parser import EMPTY, ParsedFile, Parser
from kubypass.kube.watch.api_source import ApiSource
from kubypass.kube.watch.resources import ObjectUpdate, read_object, watched_resources
from kubypass.kube.watch.watch_events import ListFinished, ListStarted, Objects
from kubypass.model.endpoint import EndpointSlice
from kubypass.model.service import EXPOSE_ALL, Service
from tests.unit.kube.api_lists import SERVICES, SLICES, list_all, new_source

WEB, WEB_1 = ("default", "web"), "web-1"
OF_SERVICES = [
    ("lb-algorithm", "algorithm", "maglev", "round-robin", "random or maglev", "maglev"),
    ("forwarding-mode", "forwarding", "dsr", "drs", "snat or dsr", "dsr"),
    ("src-ranges-policy", "source_deny", "deny", "dney", "allow or deny", ""),
    ("type", "exposure", "LoadBalancer", "Loadbalancer", "ClusterIP", ""),
    ("node-selector", "nodes", "zone=a", "zone in (", "", ""),
]
"""Annotation, field, a good value, a wrong one, what was expected, and how the good one is shown."""
IDS = [row[0] for row in OF_SERVICES]


def service(name: str, value: str | None, *, uid: str = "1") -> dict[str, Any]:
    said = {} if value is None else {f"service.cilium.io/{name}": value}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default", "uid": uid, "annotations": said},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
    }


def web_slice(value: str | None) -> dict[str, Any]:
    said = {} if value is None else {"service.cilium.io/weight": value}
    labels = {"kubernetes.io/service-name": "web"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": WEB_1, "namespace": "default", "labels": labels, "annotations": said},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [f"10.1.0.{number}"]} for number in (1, 2)],
    }


def parse(content: dict[str, Any], before: ParsedFile = EMPTY) -> ParsedFile:
    return Parser().parse("a.json", json.dumps(content).encode(), before)


def the_service(parsed: ParsedFile) -> Service:
    found = parsed.objects["Service", *WEB]
    assert isinstance(found, Service)
    assert not found.wrong
    return found


@pytest.mark.parametrize(
    ("name", "field", "good", "wrong", "expected", "shown"), OF_SERVICES, ids=IDS
)
def test_a_manifest_that_becomes_wrong(
    name: str, field: str, good: str, wrong: str, expected: str, shown: str
) -> None:
    first = parse(service(name, good))
    assert not first.problems
    value = getattr(the_service(first), field)
    second = parse(service(name, wrong), first)
    third = parse(service(name, wrong), second)
    for parsed in (second, third):
        assert getattr(the_service(parsed), field) == value
        (problem,) = parsed.problems
        assert problem.subject == "Service default/web (a.json)"
        assert f"annotation service.cilium.io/{name}" in problem.message
        assert expected in problem.message
        assert problem.message.endswith("stays in use")
        assert shown in problem.message.rpartition(";")[2]
    without = the_service(parse(service(name, None), third))
    assert getattr(without, field) == getattr(the_service(parse(service(name, None))), field)


@pytest.mark.parametrize(
    ("name", "field", "good", "wrong", "expected", "shown"), OF_SERVICES, ids=IDS
)
def test_what_was_never_good(
    name: str, field: str, good: str, wrong: str, expected: str, shown: str
) -> None:
    """After a start of the agent, and for an object that is new: the default holds, also if it held before."""
    default = getattr(the_service(parse(service(name, None))), field)
    for before in (EMPTY, parse(service(name, None)), parse(service(name, wrong))):
        parsed = parse(service(name, wrong), before)
        assert getattr(the_service(parsed), field) == default
        (problem,) = parsed.problems
        assert problem.message.endswith(("; left out", "; taken as allow"))
        assert expected in problem.message
        assert shown in problem.message
    assert getattr(the_service(parse(service(name, good), before)), field) != default


def weights(found: object) -> list[int]:
    assert isinstance(found, EndpointSlice)
    assert not found.wrong
    return [one.weight for one in found.endpoints]


def test_the_weight_of_a_manifest() -> None:
    key = ("EndpointSlice", "default", WEB_1)
    kept = parse(web_slice("five"), parse(web_slice("5")))
    assert weights(kept.objects[key]) == [5, 5]
    (problem,) = kept.problems
    assert "EndpointSlice default/web-1" in problem.subject
    assert "service.cilium.io/weight is 'five'" in problem.message
    assert problem.message.endswith("the last good value, 5, stays in use")
    assert weights(parse(web_slice("0"), kept).objects[key]) == [0, 0]
    fresh = parse(web_slice("five"))
    assert weights(fresh.objects[key]) == [1, 1]
    assert fresh.problems[0].message.endswith("taken as 1")


def test_a_weight_that_a_slice_without_endpoints_had() -> None:
    empty = {**web_slice("7"), "endpoints": []}
    kept = parse(web_slice("seven"), parse(empty))
    assert weights(kept.objects["EndpointSlice", "default", WEB_1]) == [7, 7]


def test_several_wrong_annotations_are_all_told() -> None:
    both = service("lb-algorithm", "x")
    both["metadata"]["annotations"]["service.cilium.io/forwarding-mode"] = "y"
    parsed = parse(both, parse(service("lb-algorithm", "maglev")))
    (problem,) = parsed.problems
    assert "maglev, stays in use" in problem.message
    assert "expected snat or dsr; left out" in problem.message


def update(content: dict[str, Any], *, gone: bool = False) -> ObjectUpdate:
    resource = {each.kind: each for each in watched_resources("node1", "")}[content["kind"]]
    raw = msgspec.Raw(json.dumps(content).encode())
    return read_object(resource, Converter(), raw, gone)


@pytest.fixture
def source() -> ApiSource:
    return new_source()


def test_the_api_s_objects(source: ApiSource) -> None:
    """Several events may be taken in at once: the last good one is that of the event before."""
    list_all(source, services=[update(service("lb-algorithm", None))])
    source.take()
    said = [update(service("lb-algorithm", value)) for value in ("maglev", "magelv")]
    source._report(SERVICES, Objects(said))
    source._report(SLICES, Objects([update(web_slice("9")), update(web_slice("nine"))]))
    assert source.take() == {WEB}
    snapshot = source.snapshot()
    assert snapshot.services[WEB].algorithm == "maglev"
    assert weights(snapshot.slices[WEB][0]) == [9, 9]
    told = {problem.subject: problem.message for problem in source.problems()}
    assert told["Service default/web"].endswith("the last good value, maglev, stays in use")
    assert "'nine'" in told[f"EndpointSlice default/{WEB_1}"]
    source._report(SERVICES, Objects([update(service("lb-algorithm", "random"))]))
    assert source.take() == {WEB}
    assert snapshot.services[WEB].algorithm == "random"
    assert "Service default/web" not in {problem.subject for problem in source.problems()}


def test_a_list_that_has_it_wrong_keeps_it_too(source: ApiSource) -> None:
    list_all(source, services=[update(service("forwarding-mode", "dsr"))])
    source.take()
    for event in (
        ListStarted(),
        Objects([update(service("forwarding-mode", "?"))]),
        ListFinished(),
    ):
        source._report(SERVICES, event)
    assert source.take() == set()
    assert source.snapshot().services[WEB].forwarding == "dsr"


def test_another_object_of_the_same_name_has_nothing_to_keep(source: ApiSource) -> None:
    list_all(source, services=[update(service("type", "ClusterIP"))])
    source.take()
    source._report(SERVICES, Objects([update(service("type", "Clusterip", uid="2"))]))
    source.take()
    assert source.snapshot().services[WEB].exposure == EXPOSE_ALL
    source._report(SERVICES, Objects([update(service("type", "ClusterIP", uid="2"))]))
    source._report(SERVICES, Objects([update(service("type", ""), gone=True)]))
    source._report(SERVICES, Objects([update(service("type", "?"))]))
    source.take()
    assert source.snapshot().services[WEB].exposure == EXPOSE_ALL
