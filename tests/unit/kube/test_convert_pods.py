# SPDX-License-Identifier: Apache-2.0
"""Pods with host ports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kubypass.kube.manifests.manifest_source import ManifestSource
from kubypass.kube.manifests.parser import EMPTY, Parser
from kubypass.model.address import format_address
from kubypass.model.host_port import HostPortPod

PORT = {"containerPort": 80, "hostPort": 8080}


def document(
    *ports: dict[str, Any], metadata: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **spec: Any
) -> bytes:  # fmt: skip
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web", **(metadata or {})},
            "spec": {"nodeName": "node1", "containers": [{"ports": list(ports)}], **spec},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}
            if status is None
            else status,
        }
    ).encode()


def read(content: bytes) -> tuple[HostPortPod | None, str]:
    """The pod, and its problems."""
    found = Parser().parse("a.json", content, EMPTY)
    pod = found.objects.get(("Pod", "default", "web"))
    assert pod is None or isinstance(pod, HostPortPod)
    return pod, "; ".join(problem.message for problem in found.problems)


@pytest.mark.parametrize(
    ("ports", "expected", "problem"),
    [
        ([PORT], "8080/TCP", ""),
        ([{**PORT, "protocol": "UDP"}, PORT], "8080/UDP 8080/TCP", ""),
        ([{**PORT, "hostIP": "192.0.2.1"}, PORT], "192.0.2.1:8080/TCP 8080/TCP", ""),
        ([{**PORT, "hostIP": ""}], "8080/TCP", ""),
        ([{**PORT, "hostIP": "fd00::2"}], "[fd00::2]:8080/TCP", ""),
        ([PORT, PORT], "8080/TCP", ""),
        ([{**PORT, "protocol": "ICMP"}, PORT], "8080/TCP", "ports[0].protocol is 'ICMP'"),
        ([{**PORT, "hostPort": 65536}, PORT], "8080/TCP", "ports[0].hostPort is 65536"),
        ([{**PORT, "hostPort": -1}, PORT], "8080/TCP", "ports[0].hostPort is -1"),
        ([{"hostPort": 1}, PORT], "8080/TCP", "ports[0].containerPort is 0"),
        ([{**PORT, "hostIP": "here"}, PORT], "8080/TCP", "ports[0].hostIP: 'here'"),
        ([{"containerPort": 80}, {**PORT, "hostPort": 0}], None, ""),
        ([], None, ""),
    ],
)
def test_ports(ports: list[dict[str, Any]], expected: str | None, problem: str) -> None:
    pod, message = read(document(*ports))
    assert (" ".join(map(str, pod.ports)) if pod else None) == expected
    assert problem in message
    assert bool(problem) is bool(message)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"phase": "Running", "podIP": "10.0.0.1"}, "10.0.0.1"),
        ({"phase": "Pending"}, ""),
        ({}, ""),
        ({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.2"}]}, "10.0.0.2"),
        (
            {"podIPs": [{"ip": "10.0.0.2"}, {"ip": "10.0.0.3"}, {"ip": "fd00::1"}]},
            "10.0.0.2 fd00::1",
        ),
        ({"podIPs": [{"ip": "::"}, {}]}, ""),
        ({"phase": "Failed", "podIP": "10.0.0.1"}, None),
        ({"phase": "Succeeded", "podIP": "10.0.0.1"}, None),
    ],
)
def test_status(status: dict[str, Any], expected: str | None) -> None:
    pod, message = read(document(PORT, status=status))
    assert (" ".join(map(format_address, pod.addresses)) if pod else None) == expected
    assert message == ""


def test_pods_in_the_nodes_own_network_have_their_ports_anyway() -> None:
    assert read(document(PORT, hostNetwork=True)) == (None, "")


def test_pods_without_a_node_wait() -> None:
    assert read(document(PORT, nodeName=None)) == (None, "")


def test_init_containers_that_stay() -> None:
    side = {"name": "side", "restartPolicy": "Always", "ports": [{**PORT, "hostPort": 9090}]}
    first = {"name": "first", "ports": [{**PORT, "hostPort": 9091}]}
    pod, _ = read(document(PORT, initContainers=[first, side]))
    assert pod is not None
    assert [port.port for port in pod.ports] == [8080, 9090]


def test_a_pod_that_is_being_deleted() -> None:
    pod, _ = read(document(PORT, metadata={"deletionTimestamp": "2024-01-01T00:00:00Z"}))
    assert pod is not None
    assert pod.terminating


def test_pods_come_and_go(tmp_path: Path) -> None:
    source = ManifestSource(tmp_path)
    path = tmp_path / "web.json"
    key = ("default", "pod/web")
    path.write_bytes(document(PORT))
    assert source.reread([path]) == {key}
    assert source.snapshot().pods[key].node == "node1"
    path.write_bytes(document(PORT, status={"phase": "Failed"}))
    assert source.reread([path]) == {key}
    assert key not in source.snapshot().pods
    path.write_bytes(document(PORT))
    assert source.reread([path]) == {key}
    path.unlink()
    assert source.reread([path]) == {key}
    assert not source.snapshot().pods
