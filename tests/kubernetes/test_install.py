# SPDX-License-Identifier: Apache-2.0
"""`kubypass install` and the chart against the real API server, which validates every object."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kubypass.kube.client.permissions import CLUSTER_RULES, config_rules
from kubypass_lab.box.kubernetes.cluster import Cluster
from kubypass_lab.box.kubernetes.kubectl import kubectl, try_kubectl
from tests.program import KUBYPASS

ROOT = Path(__file__).resolve().parents[2]
OBJECTS = [
    "ServiceAccount kube-system/kubypass",
    "ConfigMap kube-system/kubypass-config",
    "ClusterRole kubypass",
    "ClusterRoleBinding kubypass",
    "Role kube-system/kubypass",
    "RoleBinding kube-system/kubypass",
    "DaemonSet kube-system/kubypass",
    "ValidatingAdmissionPolicy kubypass",
    "ValidatingAdmissionPolicyBinding kubypass",
]
NODE = """apiVersion: v1
kind: Node
metadata: {name: paper, labels: {kubernetes.io/os: linux}}
status: {nodeInfo: {kernelVersion: KERNEL}}
"""


def run(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["nsenter", f"--net={cluster.paths.fabric}", KUBYPASS, *words]
    command += ["--kubeconfig", str(cluster.paths.kubeconfig)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def verbs(text: str) -> dict[str, str]:
    """Object -> what was done with it."""
    rows = [(line[:10].strip(), line[10:].strip()) for line in text.splitlines()]
    return {name: word for word, name in rows if name in OBJECTS}


def all_of(word: str) -> dict[str, str]:
    return dict.fromkeys(OBJECTS, word)


@pytest.fixture
def node(control_plane: Cluster) -> Iterator[Callable[[str], None]]:
    """A node of a kernel; it exists on paper only."""

    def make(kernel: str) -> None:
        paper = NODE.replace("KERNEL", kernel)
        kubectl(control_plane.paths, "create", "-f", "-", stdin=paper)

    yield make
    kubectl(control_plane.paths, "delete", "node", "paper", "--ignore-not-found")


@pytest.fixture
def installed(control_plane: Cluster, node: Callable[[str], None]) -> Iterator[Cluster]:
    node("6.1.0-13-amd64")
    done = run(control_plane, "install", "--wait", "0")
    assert done.returncode == 0, done.stderr
    assert verbs(done.stdout) == all_of("created")
    yield control_plane
    run(control_plane, "uninstall", "--keep-datapath")


def test_a_dry_run_changes_nothing(control_plane: Cluster, node: Callable[[str], None]) -> None:
    node("6.1.0-13-amd64")
    for _ in range(2):
        done = run(control_plane, "install", "--dry-run")
        assert done.returncode == 0, done.stderr
        assert verbs(done.stdout) == all_of("create")
        assert "sysctls net.ipv4.ip_forward" in done.stdout
        assert done.stdout.splitlines()[-1] == "nothing was changed (--dry-run)"
    assert (
        "NotFound"
        in try_kubectl(control_plane.paths, "-n", "kube-system", "get", "ds", "kubypass").stderr
    )


def test_network_policies_are_named(control_plane: Cluster, node: Callable[[str], None]) -> None:
    node("6.1.0-13-amd64")
    policy = "deny-all", "-n", "default"
    made = """apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny-all, namespace: default}
spec: {podSelector: {}}
"""
    kubectl(control_plane.paths, "create", "-f", "-", stdin=made)
    said = "1 of kind NetworkPolicy (default/deny-all): kubypass enforces none of them"
    try:
        assert said in run(control_plane, "install", "--dry-run").stdout
        answer = json.loads(run(control_plane, "install", "--dry-run", "-o", "json").stdout)
        assert [r["level"] for r in answer["remarks"] if r["text"].startswith(said)] == ["note"]
        assert answer["dry_run"]
        assert answer["exit_code"] == 0
        assert {each["object"]: each["outcome"] for each in answer["objects"]} == all_of("created")
        assert said in run(control_plane, "install", "--wait", "0").stdout
    finally:
        run(control_plane, "uninstall", "--keep-datapath")
        kubectl(control_plane.paths, "delete", "networkpolicy", *policy)
    assert "NetworkPolicy" not in run(control_plane, "install", "--dry-run").stdout


def test_it_cannot_work_and_says_why(control_plane: Cluster, node: Callable[[str], None]) -> None:
    done = run(control_plane, "install")
    assert (done.returncode, done.stdout.count("STOP")) == (1, 1)
    assert "none of 0 nodes has the labels of nodeSelector" in done.stdout
    node("4.18.0-553.el8")
    service = control_plane.topology.service_cidrs[0][1]
    done = run(control_plane, "install", "--set", f"k8sServiceHost={service}")
    assert "node paper runs Linux 4.18.0-553.el8; 5.10 or newer is needed" in done.stdout
    assert (
        f"k8sServiceHost {service} is the address of the service default/kubernetes" in done.stdout
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "nothing was changed")


def test_again_and_with_another_value(installed: Cluster) -> None:
    done = run(installed, "install", "--wait", "0")
    assert verbs(done.stdout) == all_of("unchanged")
    done = run(installed, "install", "--wait", "0", "--set", "config.enable-ipv6=false")
    assert verbs(done.stdout) == {**all_of("unchanged"), OBJECTS[1]: "configured"}
    done = run(installed, "install", "--wait", "0.1")
    assert (done.returncode, "not ready" in done.stdout) == (1, True)


def test_its_account_may_do_what_the_agent_needs_and_no_more(installed: Cluster) -> None:
    account = "--as=system:serviceaccount:kube-system:kubypass"
    rows = [(rule, verb, "-A") for rule in CLUSTER_RULES for verb in rule.verbs]
    (rule,) = config_rules(["kubypass-config"])
    rows += [(rule, verb, "--namespace=kube-system") for verb in rule.verbs]
    for rule, verb, where in rows:
        resource = "/".join((f"{rule.resource}.{rule.group}".rstrip("."), *rule.names))
        answer = try_kubectl(installed.paths, "auth", "can-i", verb, resource, account, where)
        assert answer.stdout.strip() == "yes", (verb, resource)
    for words in (
        ["get", "secrets"],
        ["list", "configmaps"],
        ["list", "configmaps", "-n", "kube-system"],
        ["watch", "configmaps/extension-apiserver-authentication", "-n", "kube-system"],
        ["delete", "nodes"],
        ["create", "pods"],
    ):
        everywhere = () if "-n" in words else ("-A",)
        answer = try_kubectl(installed.paths, "auth", "can-i", *words, account, *everywhere)
        assert answer.stdout.strip() == "no", words


def test_fields_that_somebody_else_has_set_are_named(installed: Cluster) -> None:
    word = '{"spec":{"template":{"spec":{"priorityClassName":"system-cluster-critical"}}}}'
    kubectl(
        installed.paths,
        "-n",
        "kube-system",
        "patch",
        "ds",
        "kubypass",
        "-p",
        word,
        "--field-manager=someone",
    )
    done = run(installed, "install", "--wait", "0")
    assert done.returncode == 1
    assert "DaemonSet kube-system/kubypass: " in done.stderr
    assert 'conflict with "someone"' in done.stderr
    assert "--force-conflicts" in done.stderr
    done = run(installed, "install", "--wait", "0", "--force-conflicts")
    assert verbs(done.stdout)["DaemonSet kube-system/kubypass"] == "configured"


def test_uninstall_removes_every_object(installed: Cluster) -> None:
    assert verbs(run(installed, "uninstall", "--dry-run").stdout) == all_of("remove")
    assert verbs(run(installed, "uninstall", "--keep-datapath").stdout) == all_of("removed")
    assert verbs(run(installed, "uninstall", "--keep-datapath").stdout) == all_of("not there")


def test_the_plain_manifests_are_valid(control_plane: Cluster) -> None:
    path = str(ROOT / "deploy/kubypass.yaml")
    said = kubectl(
        control_plane.paths,
        "apply",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        path,
    )
    assert len(said.splitlines()) == len(OBJECTS)


def test_helm_installs_the_chart_and_removes_it(control_plane: Cluster) -> None:
    server = f"k8sServiceHost={control_plane.topology.gateway}"

    def helm(*words: str) -> str:
        command = [
            "nsenter",
            f"--net={control_plane.paths.fabric}",
            str(ROOT / "scripts/helm"),
            *words,
        ]
        command += ["-n", "kube-system", "--kubeconfig", str(control_plane.paths.kubeconfig)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = helm("install", "kubypass", str(ROOT / "deploy/helm/kubypass"), "--set", server)
    try:
        assert "kubectl -n kube-system rollout status daemonset/kubypass" in said
        words = [
            "get",
            "ds,cm,sa,role,rolebinding",
            "kubypass",
            "kubypass-config",
            "--ignore-not-found",
            "-o",
            "name",
        ]
        assert len(kubectl(control_plane.paths, "-n", "kube-system", *words).split()) == 5
    finally:
        helm("uninstall", "kubypass")
    assert verbs(run(control_plane, "uninstall", "--dry-run").stdout) == all_of("not there")


def test_without_a_cluster() -> None:
    done = subprocess.run(
        [KUBYPASS, "install", "-o", "yaml", "--set", "k8sServiceHost=192.168.1.10"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.count("\nkind: ")) == (0, len(OBJECTS))
