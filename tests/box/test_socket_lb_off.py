# SPDX-License-Identifier: Apache-2.0
"""Pods without socket load balancing: their sockets dial the service itself, their packets are translated.

And connections of sockets that end with their backend, where that is asked for.
"""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubypass.datapath import layout
from kubypass.kernel.bpf import Map
from kubypass.model.address import parse_address
from kubypass_lab.box import agents
from kubypass_lab.box.enter import command_in, find_target
from kubypass_lab.box.files import write_json
from kubypass_lab.box.process import wait_until
from tests.box.clients import PYTHON
from tests.box.conftest import HERE, Cluster, own_box
from tests.box.exchanges import exchange
from tests.box.held_sockets import check_tcp

pytestmark = pytest.mark.xdist_group("changes")

ECHO = """
import json, socket, sys
address, kind = sys.argv[1], getattr(socket, sys.argv[2])
stream = kind == socket.SOCK_STREAM
family = socket.AF_INET6 if ":" in address else socket.AF_INET
with socket.socket(family, kind) as client:
    client.settimeout(30)
    client.connect((address, 80 if stream else 53))
    client.send(b"GET / HTTP/1.0\\r\\n\\r\\n" if stream else b"who?")
    assert client.recv(65536)
    print(json.dumps([client.getsockname()[:2], client.getpeername()[:2]]))
"""
PLAIN = """
apiVersion: v1
kind: Service
metadata: {name: plain}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {app: plain}
  ports: [{port: 53, targetPort: 5353, protocol: UDP}]
"""
KINDS = {"TCP": (6, "SOCK_STREAM", 80), "UDP": (17, "SOCK_DGRAM", 53)}


def visitor(name: str, labels: dict[str, str], annotations: dict[str, str], runtime: str) -> object:
    """A Deployment of one pod that serves nothing."""
    metadata = {"labels": {"app": name, **labels}, "annotations": annotations}
    spec = {"containers": [{"name": name, "image": "busybox"}], "runtimeClassName": runtime}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": metadata, "spec": spec},
        },
    }


VISITORS = {
    "plain": visitor("plain", {}, {}, "runc"),
    "annotated": visitor("annotated", {}, {"kubypass.io/socket-lb": "disabled"}, "runc"),
    "meshed": visitor("meshed", {"mesh": "yes"}, {}, "runc"),
    "exempt": visitor("exempt", {"mesh": "yes", "plain": ""}, {}, "runc"),
    "sandboxed": visitor("sandboxed", {}, {}, "kata"),
}


def make(kind: str, directory: Path, settings: dict[str, str]) -> Iterator[Cluster]:
    """A box with other settings."""
    path, visitors = directory / "settings.yaml", directory / "visitors.yaml"
    path.write_text(yaml.safe_dump(settings))
    visitors.write_text(yaml.safe_dump_all(VISITORS.values()))
    with own_box(kind, path, HERE / "cluster.yaml", visitors) as box:
        yield Cluster(box)


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Some pods are excluded, by labels and runtime class."""
    settings = {
        "bpf-lb-sock-exclude-pods": "mesh in (yes, true), !plain",
        "bpf-lb-sock-exclude-runtime-classes": "gvisor,kata",
        "bpf-lb-sock-terminate-all-protos": "true",
        "node-port-bind-protection": "false",
    }
    yield from make("prt", tmp_path_factory.mktemp("partial"), settings)


@pytest.fixture(scope="module")
def node_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """All pods are."""
    settings = {"bpf-lb-sock-hostns-only": "true"}
    yield from make("nod", tmp_path_factory.mktemp("nodeonly"), settings)


def translated_by(cluster: Cluster, host: str, version: int, protocol: str) -> str:
    """How a connection from a host to `echo` came to its backend; its peer is the service in any case."""
    number, kind, port = KINDS[protocol]
    address = cluster.host(version, "echo").strip("[]")
    source, peer = json.loads(cluster.run(host, "python3", "-c", ECHO, address, kind))
    assert peer == [address, port]
    node = cluster.box.nodes[0].name
    if host != "node1":
        (pod,) = cluster.pods(host.removeprefix("pod/"))
        node = pod.node
    pins = cluster.box.paths.node_bpffs(node) / "kubypass" / layout.LAYOUT_HASH
    flow = layout.Tuple(parse_address(source[0]), parse_address(address), source[1], port, number)
    maps = [Map.open_pinned(str(pins / name)) for name in ("flows", "transient_flows")]
    return "packet" if any(each.lookup(flow.pack()) for each in maps) else "socket"


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize("version", [4, 6])
def test_some_pods_are_translated_by_packet(partial: Cluster, version: int, protocol: str) -> None:
    hosts = ["node1", *(f"pod/{name}" for name in VISITORS)]
    found = {host: translated_by(partial, host, version, protocol) for host in hosts}
    by_packet = {host for host, how in found.items() if how == "packet"}
    assert by_packet == {"pod/annotated", "pod/meshed", "pod/sandboxed"}


@pytest.mark.parametrize(("name", "program"), [("plain", "connect4"), ("annotated", "from_pod")])
def test_trace_knows_which(partial: Cluster, name: str, program: str) -> None:
    (pod,) = partial.pods(name)
    argv = (
        "kubypass",
        "trace",
        "--from",
        f"pod/{pod.name}",
        "--to",
        "service/echo:80",
        "-o",
        "json",
    )
    assert json.loads(partial.run(pod.node, *argv))["program"] == program


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize("version", [4, 6])
def test_hostns_only(node_only: Cluster, version: int, protocol: str) -> None:
    assert translated_by(node_only, "node1", version, protocol) == "socket"
    assert translated_by(node_only, "pod/plain", version, protocol) == "packet"


@pytest.mark.parametrize("client", ["annotated", "plain"])
@pytest.mark.parametrize("version", [4, 6])
def test_a_reply_whose_last_fragment_comes_first(
    partial: Cluster, version: int, client: str
) -> None:
    """One client is a pod whose packets are translated, the other one whose sockets are."""
    partial.apply(PLAIN)
    (server,) = partial.pods("plain")
    address = next(str(a) for a in server.addresses if (":" in str(a)) == (version == 6))
    script = [PYTHON, (HERE / "answer_backwards.py").as_posix(), address, "5353"]
    command = command_in(find_target(partial.box, "pod/plain"), script)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            to = (partial.host(version, "plain"), 53)
            assert exchange(partial, f"pod/{client}", "SOCK_DGRAM", to, 4000) == "backwards"
        finally:
            process.kill()


def test_status_tells_which(partial: Cluster, node_only: Cluster) -> None:
    excluded = 0
    for node in partial.box.nodes:
        status: dict[str, Any] = agents.ask(partial.box.paths, node.name, "/status")
        excluded += status["socket_lb"]["excluded_pods"]
        assert status["bind_protection"]["effective"] == "Disabled"
        assert status["socket_termination"]["effective"] == "UDP+TCP of the node and of pods"
    assert excluded == 3
    assert "Socket LB:               Hostns-only\n" in node_only.run("node1", "kubypass", "status")


def is_translated_by(cluster: Cluster, how: str) -> bool:
    return translated_by(cluster, "pod/plain", 4, "TCP") == how


def test_a_changed_record_counts_for_new_connections(partial: Cluster) -> None:
    (pod,) = partial.pods("plain")
    record = partial.box.paths.agent_run(pod.node) / "pods" / f"{pod.namespace}_{pod.name}.json"
    fields = json.loads(record.read_text())
    try:
        for value, expected in (("disabled", "packet"), ("enabled", "socket")):
            annotations = {"kubypass.io/socket-lb": value}
            write_json(record, {**fields, "annotations": annotations})
            assert wait_until(functools.partial(is_translated_by, partial, expected))
    finally:
        write_json(record, fields)


def test_a_record_without_a_namespace_is_a_problem(partial: Cluster) -> None:
    (pod,) = partial.pods("annotated")
    record = partial.box.paths.agent_run(pod.node) / "pods" / f"{pod.namespace}_{pod.name}.json"
    fields = json.loads(record.read_text())

    def problems() -> list[str]:
        status: dict[str, Any] = agents.ask(partial.box.paths, pod.node, "/status")
        return [
            each["message"] for each in status["problems"] if each["subject"].endswith(pod.name)
        ]

    try:
        write_json(record, {**fields, "netns": "/run/netns/nowhere"})
        assert wait_until(lambda: any("nowhere" in text for text in problems()))
    finally:
        write_json(record, fields)
    assert wait_until(lambda: not problems())


def test_tcp_connections_end_with_their_backend_where_asked(
    partial: Cluster, tmp_path: Path
) -> None:
    check_tcp(partial, tmp_path, ends=True)
