# SPDX-License-Identifier: Apache-2.0
"""Real agents and sockets: hooks, NodePorts that processes have already, pods without socket load balancing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kubypass.datapath import layout
from kubypass.datapath.attach import BALANCE_HOOKS, BIND_HOOKS
from kubypass.kernel import netns
from kubypass.kernel.bpf import Map
from kubypass_lab.bench.cluster import named_service, named_slice, write_file
from kubypass_lab.bench.node import BareNode, agent, bare_node
from tests.agent.commands import command, one_service
from tests.agent.undo import problems
from tests.waiting import wait

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")
LISTEN = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
made = socket.socket(family, getattr(socket, sys.argv[2]))
made.bind((sys.argv[1], int(sys.argv[3])))
if made.type == socket.SOCK_STREAM:
    made.listen()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def node() -> Iterator[BareNode]:
    with bare_node() as made:
        yield made


def node_port_service(node: BareNode, port: int) -> None:
    """`web` with a NodePort."""
    service: dict[str, Any] = named_service("web", "10.96.0.1")
    service["spec"] |= {"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}
    write_file(node.manifests / "service.json", service)
    write_file(node.manifests / "slice.json", named_slice("web", ["10.1.0.1"], 80))


@contextmanager
def listening(node: BareNode, address: str, kind: str, port: int) -> Iterator[int]:
    """A process of the node that listens there, for the length of a block; its pid."""
    argv = ["nsenter", f"--net=/run/netns/{node.namespace}", sys.executable, "-c", LISTEN]
    with subprocess.Popen(
        [*argv, address, kind, str(port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield process.pid
        finally:
            process.kill()


@pytest.mark.parametrize("address", ["192.168.1.31", "127.0.0.1", "::"])
def test_a_process_that_has_a_node_port_already_is_named(node: BareNode, address: str) -> None:
    node_port_service(node, 30080)
    with listening(node, address, "SOCK_STREAM", 30080) as pid, agent(node):
        (line,) = problems(node)
        assert line.startswith("Service default/web (node port 30080/TCP): python3")
        assert f"(pid {pid}) listens on " in line
    node_port_service(node, 30081)
    with agent(node):
        assert not problems(node)
        with listening(node, address, "SOCK_STREAM", 30080) as pid:
            node_port_service(node, 30080)
            (line,) = wait(lambda: problems(node), "a problem")
            assert f"(pid {pid}) listens on " in line
        wait(lambda: not problems(node), "the problem to be gone")


def test_a_socket_of_another_protocol_or_address_is_no_problem(node: BareNode) -> None:
    node_port_service(node, 30080)
    with (
        listening(node, "192.168.1.31", "SOCK_DGRAM", 30080),
        listening(node, "127.0.0.1", "SOCK_STREAM", 30080),
        agent(node, "--localhost-nodeports=false"),
    ):
        assert not problems(node)


def hooks(node: BareNode) -> set[str]:
    """Cgroup hooks with a program of ours."""
    links = (node.root / "bpf/kubypass/links").iterdir()
    return {p.name.removeprefix("cgroup-") for p in links if p.name.startswith("cgroup-")}


def test_hooks_follow_the_settings_and_are_cleaned_up(node: BareNode) -> None:
    one_service(node)
    for options, expected in (
        ([], {*BALANCE_HOOKS, *BIND_HOOKS}),
        (["--node-port-bind-protection=false"], set(BALANCE_HOOKS)),
        (["--kube-proxy-replacement=false"], set()),
        (
            ["--kube-proxy-replacement=partial", "--enable-node-port=true"],
            {*BALANCE_HOOKS, *BIND_HOOKS},
        ),
    ):
        with agent(node, *options):
            assert hooks(node) == expected
    command(node, "cleanup", *node.options)
    shown = subprocess.run(
        ["bpftool", "cgroup", "show", str(node.cgroup)], capture_output=True, text=True, check=True
    )
    assert "bind4" not in shown.stdout


def in_node(node: BareNode, *argv: str) -> str:
    """A command in the node's namespace."""
    entered = ["nsenter", f"--net=/run/netns/{node.namespace}", *argv]
    return subprocess.run(entered, capture_output=True, text=True, check=True).stdout.strip()


def test_ephemeral_ports_stay_clear_of_node_ports(node: BareNode) -> None:
    reserved = "net.ipv4.ip_local_reserved_ports"
    one_service(node)
    in_node(node, "sysctl", "-w", "net.ipv4.ip_local_port_range=31000 61000", f"{reserved}=8080")
    with agent(node):
        assert in_node(node, "sysctl", "-n", reserved) == "8080,31000-32767"
        assert node.status()["writes"]["sysctls"] > 0
    with agent(node):
        assert set(node.status()["writes"].values()) == {0}
    in_node(node, "sysctl", "-w", f"{reserved}=8080,9000,31000-32767,40000-40009")
    command(node, "cleanup", *node.options)
    assert in_node(node, "sysctl", "-n", reserved) == "8080,9000,40000-40009"
    command(node, "cleanup", *node.options)
    assert in_node(node, "sysctl", "-n", reserved) == "8080,9000,40000-40009"


@pytest.fixture
def pod(node: BareNode) -> Iterator[dict[str, object]]:
    """The record of a pod on the node that has a namespace and a link."""
    name = f"{node.namespace}-pod"
    try:
        for words in (
            ["netns", "add", name],
            ["-n", node.namespace, "link", "add", "lxc1", "type", "veth", "peer", "name", "eth0", "netns", name],
            ["-n", node.namespace, "link", "set", "lxc1", "up"],
        ):  # fmt: skip
            subprocess.run(["ip", *words], check=True)
        yield {
            "namespace": "default", "name": "web-0", "addresses": ["10.1.0.1"], "interface": "lxc1",
            "mac": "02:00:00:00:00:01", "netns": f"/run/netns/{name}",
        }  # fmt: skip
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def test_a_pod_without_socket_load_balancing_outlives_restarts(
    node: BareNode, pod: dict[str, object]
) -> None:
    one_service(node)
    record = node.run / "pods" / "web-0.json"
    record.parent.mkdir()
    write_file(record, {**pod, "annotations": {"kubypass.io/socket-lb": "disabled"}})
    pin = node.root / "bpf/kubypass" / layout.LAYOUT_HASH / "socket_lb_off"
    cookie = netns.cookie_of(str(pod["netns"])).to_bytes(8, "little")

    def excluded() -> list[bytes]:
        return [key for key, _ in Map.open_pinned(str(pin)).items()]

    with agent(node):
        assert excluded() == [cookie]
        assert node.status()["socket_lb"]["excluded_pods"] == 1
    with agent(node):
        assert set(node.status()["writes"].values()) == {0}
        write_file(record, {**pod, "annotations": {"kubypass.io/socket-lb": "enabled"}})
        wait(lambda: not excluded(), "the pod's sockets to be balanced")
        write_file(record, {**pod, "labels": ["a"]})
        (line,) = wait(lambda: problems(node), "a problem")
        assert "labels is not an object" in line
        write_file(record, {**pod, "labels": {"mesh": "yes"}, "runtime_class": "kata"})
        wait(lambda: not problems(node), "no problem")
        assert excluded() == []
    for option in ("exclude-pods=mesh=yes", "exclude-runtime-classes=gvisor kata"):
        with agent(node, f"--bpf-lb-sock-{option}"):
            assert excluded() == [cookie]
    with agent(node, "--bpf-lb-sock-exclude-pods=mesh!=yes"):
        assert excluded() == []
    refused = command(
        node, "agent", "--manifests", str(node.manifests), "--bpf-lb-sock-exclude-pods=a in b"
    )
    assert refused.returncode == 2
    assert "bpf-lb-sock-exclude-pods" in refused.stderr
