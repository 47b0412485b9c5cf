# SPDX-License-Identifier: Apache-2.0
"""What users apply: objects read from YAML, and errors that name the field."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubypass_lab.box.object_files import ParsedObjects, read_objects

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: nginx}]}
"""
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: "


def read(tmp_path: Path, text: str) -> ParsedObjects:
    """Read one file with `text`."""
    path = tmp_path / "objects.yaml"
    path.write_text(text)
    return read_objects([path])


def test_several_documents(tmp_path: Path) -> None:
    config_map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n"
    text = "---".join(
        ["# nothing\n", DEPLOYMENT, f"\n{config_map}", f"\n{SERVICE}{{ports: [{{port: 80}}]}}\n"]
    )
    reading = read(tmp_path, text)
    assert [each.key for each in reading.objects] == [
        "deployment.apps_default_web",
        "service_default_web",
    ]
    assert reading.skipped == ["ConfigMap/settings"]
    assert reading.errors == []


def test_list_of_a_real_cluster(tmp_path: Path) -> None:
    metadata = "{name: a, creationTimestamp: 2024-01-01T00:00:00Z}"
    item = (
        f"{{apiVersion: v1, kind: Service, metadata: {metadata}, spec: {{ports: [{{port: 1}}]}}}}"
    )
    reading = read(tmp_path, f"apiVersion: v1\nkind: List\nitems: [{item}]")
    assert [each.key for each in reading.objects] == ["service_default_a"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            SERVICE + "{ports: [{port: 70000}]}",
            ["document 1", "service web", "spec.ports[0].port", "65535"],
        ),
        (SERVICE + "{ports: [{port: 80, protocol: ICMP}]}", ["spec.ports[0].protocol", "ICMP"]),
        (SERVICE + "{ports: []}", ["spec.ports", "at least one"]),
        (SERVICE + "{ports: [{port: 80}, {port: 81}]}", ["spec.ports", "name"]),
        (SERVICE + "{type: Nodeport, ports: [{port: 80}]}", ["spec.type", "Nodeport"]),
        (DEPLOYMENT.replace("replicas: 2", "replicas: -1"), ["spec.replicas", "0"]),
        (
            DEPLOYMENT.replace("labels: {app: web}", "labels: {app: other}"),
            ["spec.selector", "does not match"],
        ),
        (DEPLOYMENT.replace("name: web}", "name: ../web}", 1), ["metadata.name"]),
        ("kind: [", ["not YAML"]),
        ("just text", ["expected a Kubernetes object"]),
    ],
)
def test_errors_name_the_field(tmp_path: Path, text: str, parts: list[str]) -> None:
    reading = read(tmp_path, text)
    assert reading.objects == []
    (error,) = reading.errors
    assert "objects.yaml" in str(error)
    for part in parts:
        assert part in str(error)
    assert "\n" not in str(error)


def test_one_error_does_not_stop_the_rest(tmp_path: Path) -> None:
    reading = read(tmp_path, f"{SERVICE}{{ports: [{{port: 0}}]}}\n---{DEPLOYMENT}")
    assert len(reading.errors) == 1
    assert [each.key for each in reading.objects] == ["deployment.apps_default_web"]
