# SPDX-License-Identifier: Apache-2.0
"""Manifest files that come, change, break and go."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kubypass.errors import ConfigError
from kubypass.kube.manifests.manifest_source import ManifestSource

WEB = ("default", "web")


def service(name: str = "web", ip: str = "10.96.0.1", namespace: str = "default") -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": ip, "ports": [{"port": 80}]}, "status": {"loadBalancer": {}},
    }  # fmt: skip


def endpoint_slice(
    name: str = "web-1", of: str = "web", address: str = "10.0.0.1"
) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": of}},
        "ports": [{"name": "", "port": 8080}], "endpoints": [{"addresses": [address]}],
    }  # fmt: skip


def write(path: Path, *objects: dict[str, Any]) -> Path:
    """YAML reads JSON, with separators between documents."""
    path.write_text("\n---\n".join(json.dumps(found) for found in objects))
    return path


def listed(*objects: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": "v1", "items": list(objects), "kind": "List", "metadata": {}})


@pytest.mark.parametrize("name", ["all.json", "all.yaml"])
def test_a_dump_of_kubectl(tmp_path: Path, name: str) -> None:
    other = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": []}
    knative = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "k"}}
    (tmp_path / name).write_text(listed(service(), other, knative, endpoint_slice()))
    source = ManifestSource(tmp_path)
    snapshot = source.read()
    assert set(snapshot.services) == {WEB}
    assert len(snapshot.slices[WEB]) == 1
    assert snapshot.problems == ()
    assert source.ignored == 2


@pytest.mark.parametrize("name", ["all.json", "all.yml"])
def test_a_list_whose_items_do_not_say_their_kind(tmp_path: Path, name: str) -> None:
    item = {k: v for k, v in service().items() if k not in {"kind", "apiVersion"}}
    text = json.dumps({"kind": "ServiceList", "apiVersion": "v1", "items": [item]})
    (tmp_path / name).write_text(text)
    assert set(ManifestSource(tmp_path).read().services) == {WEB}


def test_one_file(tmp_path: Path) -> None:
    path = write(tmp_path / "web.yaml", service())
    source = ManifestSource(path)
    assert set(source.read().services) == {WEB}
    assert source.directories == (str(tmp_path),)
    path.unlink()
    assert source.scan() == set()
    assert source.reread([path]) == set()
    assert set(source.snapshot().services) == {WEB}
    assert "No such file" in source.problems()[0].message


def test_no_such_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        ManifestSource(tmp_path / "missing")


def test_yaml_that_trips_over_yaml(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "apiVersion: v1\nkind: Service\n"
        "metadata:\n  name: web\n  creationTimestamp: 2024-05-01T10:00:00Z\n"
        "spec: {clusterIP: 10.96.0.1}\n---\n# nothing\n---\n"
        "kind: CustomResourceDefinition\nenum:\n- =\n- !=\n"
    )
    snapshot = ManifestSource(tmp_path).read()
    assert snapshot.services[WEB].created == "2024-05-01T10:00:00Z"


def test_one_bad_document_leaves_the_others(tmp_path: Path) -> None:
    good = json.dumps(service())
    (tmp_path / "a.yaml").write_text(
        f"{good}\n---\nkind: [\n---\n{json.dumps(service('b', '10.96.0.2'))}"
    )
    snapshot = ManifestSource(tmp_path).read()
    assert set(snapshot.services) == {WEB, ("default", "b")}
    (problem,) = snapshot.problems
    assert problem.subject == "File a.yaml"
    assert "line" in problem.message
    assert "the other 2 objects are used" in problem.message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "{"), ("a.yaml", "just text"), ("a.yaml", "\t- x"), ("a.yaml", "[" * 5000),
        ("a.yaml", "\ufffe"), ("a.yaml", "a: &x [*x]\nb: !!python/object:os.system {}"),
        ("a.json", "{"), ("a.json", "[]"), ("a.json", '{"kind": 1}'), ("a.json", "[" * 5000),
        ("a.json", '{"kind": "List", "items": {}}'), ("a.json", '{"kind": "List", "items": [1'),
    ],
)  # fmt: skip
def test_malformed_files_are_one_line(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    write(tmp_path / "b.yaml", service())
    snapshot = ManifestSource(tmp_path).read()
    assert set(snapshot.services) == {WEB}
    (problem,) = snapshot.problems
    assert problem.subject == f"File {name}"
    assert "\n" not in str(problem)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x80abc", b"kind: \x00"])
@pytest.mark.parametrize("name", ["a.yaml", "a.json"])
def test_bytes_that_are_no_text(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    (problem,) = ManifestSource(tmp_path).read().problems
    assert "\n" not in str(problem)


@pytest.mark.parametrize("name", ["a.yaml", "a.json"])
def test_items_that_are_no_objects(tmp_path: Path, name: str) -> None:
    text = json.dumps(
        {"kind": "ServiceList", "apiVersion": "v1", "items": [1, None, service(), {"metadata": 3}]}
    )
    (tmp_path / name).write_text(text)
    snapshot = ManifestSource(tmp_path).read()
    assert set(snapshot.services) == {WEB}
    assert len(snapshot.problems) == 3


def test_a_file_that_breaks_keeps_its_last_good_content(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", service())
    source = ManifestSource(tmp_path)
    source.read()
    path.write_text("{")
    assert source.reread([path]) == set()
    assert set(source.snapshot().services) == {WEB}
    assert "the last good content is kept" in source.problems()[0].message
    write(path, service("b"))
    assert source.reread([path]) == {WEB, ("default", "b")}
    assert source.problems() == ()


def test_an_object_that_breaks_keeps_its_last_good_form(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", service(), service("b", "10.96.0.2"))
    source = ManifestSource(tmp_path)
    source.read()
    broken = service()
    broken["spec"]["ports"][0]["port"] = "http"
    write(path, broken, service("b", "10.96.0.3"))
    assert source.scan() == {("default", "b")}
    assert set(source.snapshot().services) == {WEB, ("default", "b")}
    assert "the last good one is kept" in source.problems()[0].message


def test_changes_name_the_services_they_touch(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", service())
    slices = tmp_path / "b.json"
    source = ManifestSource(tmp_path)
    assert source.scan() == {WEB}
    assert source.scan() == set()
    slices.write_text(listed(endpoint_slice(), endpoint_slice("web-2", address="10.0.0.2")))
    assert source.reread([slices]) == {WEB}
    assert [found.name for found in source.snapshot().slices[WEB]] == ["web-1", "web-2"]
    slices.write_text(listed(endpoint_slice(), endpoint_slice("web-2", of="b", address="10.0.0.2")))
    assert source.reread([slices]) == {WEB, ("default", "b")}
    slices.unlink()
    assert source.reread([slices]) == {WEB, ("default", "b")}
    assert source.snapshot().slices == {}
    path.touch()
    assert source.scan() == set()
    path.rename(tmp_path / "c.yaml")
    assert source.reread([path, tmp_path / "c.yaml"]) == {WEB}
    assert set(source.snapshot().services) == {WEB}


def test_two_files_with_the_same_object(tmp_path: Path) -> None:
    first = write(tmp_path / "a.yaml", service(ip="10.96.0.1"))
    second = write(tmp_path / "b.yaml", service(ip="10.96.0.2"))
    source = ManifestSource(tmp_path)
    snapshot = source.read()
    before = snapshot.services[WEB]
    (problem,) = snapshot.problems
    assert problem.subject == "Service default/web"
    assert "a.yaml and " in problem.message
    write(second, service(ip="10.96.0.3"))
    assert source.reread([second]) == set()
    first.unlink()
    assert source.scan() == {WEB}
    assert source.snapshot().services[WEB] != before
    assert source.problems() == ()
    write(first, service(ip="10.96.0.1"))
    assert source.reread([first]) == {WEB}
    assert source.snapshot().services[WEB] == before
    second.unlink()
    assert source.scan() == set()
    assert source.problems() == ()


def test_directories_below_and_hidden_names(tmp_path: Path) -> None:
    (tmp_path / "apps").mkdir()
    (tmp_path / ".git").mkdir()
    write(tmp_path / "apps" / "web.yaml", service())
    write(tmp_path / ".git" / "b.yaml", service("b"))
    write(tmp_path / ".c.yaml", service("c"))
    write(tmp_path / "d.txt", service("d"))
    source = ManifestSource(tmp_path)
    assert set(source.read().services) == {WEB}
    assert set(source.directories) == {str(tmp_path), str(tmp_path / "apps")}
    (tmp_path / "more").mkdir()
    write(tmp_path / "more" / "e.yaml", service("e"))
    assert source.reread([tmp_path / "more"]) == {("default", "e")}
    assert source.reread([tmp_path / ".c.yaml", tmp_path / "d.txt"]) == set()


def test_a_mounted_config_map_that_swaps(tmp_path: Path) -> None:
    for version, ip in ("..1", "10.96.0.1"), ("..2", "10.96.0.2"):
        (tmp_path / version).mkdir()
        write(tmp_path / version / "web.yaml", service(ip=ip))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "web.yaml").symlink_to("..data/web.yaml")
    source = ManifestSource(tmp_path)
    assert set(source.read().services) == {WEB}
    os.symlink("..2", tmp_path / "..tmp")
    os.rename(tmp_path / "..tmp", tmp_path / "..data")
    assert source.reread([tmp_path / "..data"]) == {WEB}


def test_nodes_that_changed_are_kept_for_the_caller(tmp_path: Path) -> None:
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "node1"},
        "spec": {"podCIDR": "10.0.0.0/24"},
    }
    path = write(tmp_path / "n.yaml", node)
    source = ManifestSource(tmp_path)
    assert source.scan() == set()
    assert source.changed_nodes == {"node1"}
    source.changed_nodes.clear()
    path.unlink()
    source.scan()
    assert source.changed_nodes == {"node1"}
    assert source.snapshot().nodes == {}
