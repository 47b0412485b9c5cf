# SPDX-License-Identifier: Apache-2.0
"""Settings for all nodes, and those that override them for some."""

from __future__ import annotations

import json

import msgspec
import pytest

from kubypass.errors import ConfigError
from kubypass.kube.config_maps import (
    FOR_ALL,
    FOR_SOME,
    ConfigMapName,
    config_resources,
    differences,
    merge,
    parse_name,
    read_config_map,
)
from kubypass.model.config_map import ConfigMap

PLACE = ConfigMapName("kube-system", "kubypass-config")


def texts(*others: ConfigMap) -> dict[tuple[str, str, str], ConfigMap]:
    common = ConfigMap("kubypass-config", {"a": "1", "b": "1"})
    found = {(FOR_ALL, "kube-system", common.name): common}
    return found | {(FOR_SOME, "kube-system", text.name): text for text in others}


def test_of_those_that_select_the_node_the_last_by_name_counts() -> None:
    some = [
        ConfigMap("z", {"a": "3"}, "pool=edge"),
        ConfigMap("x", {"a": "2", "c": "2"}, "pool in (edge,core)"),
        ConfigMap("y", {"b": "9"}, "pool=core"),
    ]
    assert merge(texts(*some), {"pool": "edge"}) == ({"a": "3", "b": "1", "c": "2"}, ("x", "z"), ())
    assert merge(texts(*some), {})[0] == {"a": "1", "b": "1"}


@pytest.mark.parametrize("selector", [None, "", "=x"])
def test_one_that_does_not_say_for_whom_is_for_nobody(selector: str | None) -> None:
    values, names, (problem,) = merge(texts(ConfigMap("x", {"a": "2"}, selector)), {"x": "x"})
    assert (values, names) == ({"a": "1", "b": "1"}, ())
    assert problem.subject == "ConfigMap kube-system/x"
    assert "it is for no node until then" in problem.message


def test_without_the_one_for_all_there_is_nothing() -> None:
    only = {(FOR_SOME, "kube-system", "x"): ConfigMap("x", {"a": "2"}, "pool=edge")}
    assert merge(only, {"pool": "edge"})[0] is None


def test_what_is_asked_for_is_as_narrow_as_it_can_be() -> None:
    one, some = config_resources(PLACE)
    path = "/api/v1/namespaces/kube-system/configmaps?"
    assert one.path() == f"{path}fieldSelector=metadata.name%3Dkubypass-config"
    assert some.path() == f"{path}labelSelector=kubypass.io%2Fnode-config%3Dtrue"
    assert str(one) != str(some)


def test_those_that_are_named_are_asked_for_one_by_one() -> None:
    place = parse_name("kube-system/kubypass-config", "edge,gpu")
    assert place.names == ("kubypass-config", "edge", "gpu")
    path = "/api/v1/namespaces/kube-system/configmaps?fieldSelector=metadata.name%3D"
    found = config_resources(place)
    assert [one.path() for one in found] == [f"{path}{name}" for name in place.names]
    assert [one.kind for one in found] == [FOR_ALL, FOR_SOME, FOR_SOME]
    assert len({str(one) for one in found}) == 3
    none = parse_name("kube-system/kubypass-config", "")
    assert [one.path() for one in config_resources(none)] == [f"{path}kubypass-config"]


def test_an_object_becomes_text() -> None:
    annotations = {"kubypass.io/node-selector": "pool=edge"}
    item = {"metadata": {"name": "x", "resourceVersion": "7", "annotations": annotations}}
    content = msgspec.Raw(json.dumps({**item, "data": {"a": " 1\n"}}).encode())
    some = config_resources(PLACE)[1]
    found = read_config_map(some, content, False)
    key = (FOR_SOME, "kube-system", "x")
    assert found.objects == ((key, ConfigMap("x", {"a": "1"}, "pool=edge")),)
    assert found.version == "7"
    assert read_config_map(some, content, True).objects == ((key, None),)
    broken = read_config_map(some, msgspec.Raw(b'{"data": 5}'), False)
    assert broken.problem is not None


def test_differences_have_both_values() -> None:
    assert list(differences({"a": "1", "b": "1"}, {"b": "2", "c": "1"})) == [
        ("a", "1", None),
        ("b", "1", "2"),
        ("c", None, "1"),
    ]


@pytest.mark.parametrize("text", ["x", "/x", "x/", "a/b/c", ""])
def test_a_name_has_two_parts(text: str) -> None:
    with pytest.raises(ConfigError, match="NAMESPACE/NAME"):
        parse_name(text)
    assert parse_name("kube-system/kubypass-config") == PLACE
