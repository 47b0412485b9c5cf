# SPDX-License-Identifier: Apache-2.0
"""`kubypass connectivity test`, `install` and `uninstall` on a real cluster of two nodes that kubypass serves."""

from __future__ import annotations

import json
import signal
import subprocess
from ipaddress import ip_network

import pytest

from kubypass_lab.box.kubernetes.cluster import Cluster
from kubypass_lab.box.kubernetes.kubectl import kubectl
from kubypass_lab.box.patience import DEADLINE_S
from tests.kubernetes.connectivity import command, on, run, wait_namespace_gone

ROUTE = ("ip", "route", "add", "unreachable")


@pytest.fixture
def names(two_nodes: Cluster) -> list[str]:
    return [node.name for node in two_nodes.nodes]


def test_every_path(two_nodes: Cluster) -> None:
    done = run(two_nodes, "connectivity", "test", "-o", "json")
    said = json.loads(done.stdout)
    assert [row for row in said["paths"] if not row["passed"]] == []
    assert done.returncode == 0
    assert [node["proxy"] for node in said["nodes"]] == ["ebpf", "ebpf"]
    assert said["passed"] == len(said["paths"]) > 80
    assert all(row["counts"] for row in said["paths"])
    wait_namespace_gone(two_nodes)


def test_what_fails_and_who_dropped_it(two_nodes: Cluster, names: list[str]) -> None:
    """Routes that lead nowhere, more exact than ours, to all pods of the first node, on the second one.

    Nodes get their networks of pods in the order in which they register.
    """
    words = ("get", "node", names[0], "-o", "jsonpath={.spec.podCIDR}")
    network = ip_network(kubectl(two_nodes.paths, *words).strip())
    halves = [str(half) for half in network.subnets()]
    for half in halves:
        on(two_nodes, names[1], *ROUTE, half)
    try:
        done = run(two_nodes, "connectivity", "test", "-o", "json")
    finally:
        for half in halves:
            on(two_nodes, names[1], "ip", "route", "delete", "unreachable", half)
    said = json.loads(done.stdout)
    failed = [row for row in said["paths"] if not row["passed"]]
    assert done.returncode == 1
    assert len(failed) == said["failed"] > 0
    assert not [row for row in failed if row["path"] in {"pod, own node", "ClusterIP, hairpin"}]
    drops = {reason for row in failed for reason in row["drops"]}
    assert any(reason.startswith(f"{names[1]}: ") and "no_route" in reason for reason in drops)
    assert not [reason for reason in drops if reason.startswith(f"{names[0]}: ")]
    wait_namespace_gone(two_nodes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_cleans_up_when_it_is_stopped(two_nodes: Cluster, number: int) -> None:
    whole = command(two_nodes, "connectivity", "test")
    with subprocess.Popen(whole, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            if line.startswith("waiting for"):
                process.send_signal(number)
                break
        process.stderr.read()
        assert process.wait(4 * DEADLINE_S) == 130
    wait_namespace_gone(two_nodes)


def test_an_image_that_no_node_has(two_nodes: Cluster) -> None:
    done = run(two_nodes, "connectivity", "test", "--image", "no.where/kubypass:1", "--wait", "3")
    assert done.returncode == 1
    assert "pods are not ready after 3 s: host-a" in done.stderr
    wait_namespace_gone(two_nodes)


def test_wrong_usage(two_nodes: Cluster, names: list[str]) -> None:
    done = run(two_nodes, "connectivity", "test", "--node", "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--node nowhere: there is no such node; there are: {', '.join(names)}" in done.stderr
    assert run(two_nodes, "connectivity", "test", "--outside", "a").returncode == 2
    kubectl(two_nodes.paths, "create", "namespace", "kubypass-test")
    try:
        done = run(two_nodes, "connectivity", "test")
        assert (done.returncode, done.stdout) == (2, "")
        assert "namespace kubypass-test is not of this test" in done.stderr
    finally:
        kubectl(two_nodes.paths, "delete", "namespace", "kubypass-test")


def test_out_and_in_again(two_nodes: Cluster, names: list[str]) -> None:
    """Nodes are clean without kubypass, and ready with it."""
    done = run(two_nodes, "uninstall")
    assert done.returncode == 0, done.stdout + done.stderr
    for node in names:
        assert not on(two_nodes, node, "ip", "route", "show", "proto", "75")
        assert "kubypass" not in on(two_nodes, node, "ls", "/sys/fs/bpf", "/etc/cni/net.d")
    config = two_nodes.topology.pod_cidrs[0]
    words = ["--set", f"config.ipv4-native-routing-cidr={config}", "--force-conflicts"]
    done = run(two_nodes, "install", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].split(maxsplit=1) == ["agents", "all ready"]
    said = kubectl(
        two_nodes.paths, "-n", "kube-system", "exec", "ds/kubypass", "--", "kubypass", "status"
    )
    assert "KubeProxyReplacement:    True" in said
    assert run(two_nodes, "connectivity", "test").returncode == 0


def test_a_wrong_setting_is_said_before_and_by_the_agents(two_nodes: Cluster) -> None:
    done = run(two_nodes, "install", "--set", "config.kube-proxy-replacement=maybe")
    assert (done.returncode, "nothing was changed" in done.stdout) == (1, True)
    assert "STOP      config: kube-proxy-replacement: 'maybe': expected" in done.stdout
