# SPDX-License-Identifier: Apache-2.0
"""An agent may change its own node only, and only take taints away: the real API server judges by the pod's token."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from kubypass_lab.box.kubernetes.cluster import Cluster
from kubypass_lab.box.kubernetes.kubectl import kubectl, try_kubectl
from tests.waiting import wait

TAINT = "node.kubypass.io/agent-not-ready"
OTHER = {"key": "example.org/other", "effect": "PreferNoSchedule"}
ONE = [{"key": TAINT, "effect": "PreferNoSchedule"}, OTHER]


@pytest.fixture
def token(two_nodes: Cluster) -> str:
    """A token that the kubelet would give to the agent's pod on node1."""
    name = two_nodes.nodes[0].name
    pod = kubectl(
        two_nodes.paths, "-n", "kube-system", "get", "pods", "-l", "k8s-app=kubypass",
        "--field-selector", f"spec.nodeName={name}", "-o", "name",
    ).strip().removeprefix("pod/")  # fmt: skip
    words = ["create", "token", "kubypass", "--bound-object-kind=Pod", f"--bound-object-name={pod}"]
    return kubectl(two_nodes.paths, "-n", "kube-system", *words).strip()


@pytest.fixture(autouse=True)
def tainted(two_nodes: Cluster) -> Iterator[None]:
    """Both nodes have two taints that keep nobody away, and lose them in the end."""
    set_taints(two_nodes, ONE)
    yield
    set_taints(two_nodes, [])


def set_taints(cluster: Cluster, taints: list[dict[str, str]]) -> None:
    for node in cluster.nodes:
        patch = json.dumps({"spec": {"taints": taints or None}})
        kubectl(cluster.paths, "patch", "node", node.name, "--type=merge", "-p", patch)


def as_agent(cluster: Cluster, token: str, node: str, patch: object, query: str = "") -> str:
    """What the API server says to a JSON patch; kubectl would want to read the node first."""
    view = ["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]
    url = f"{kubectl(cluster.paths, *view)}/api/v1/nodes/{node}{query}"
    headers = (f"Authorization: Bearer {token}", "Content-Type: application/json-patch+json")
    words = [word for header in headers for word in ("-H", header)]
    command = ["nsenter", f"--net={cluster.paths.fabric}", "curl", "-sSk", "-X", "PATCH", *words]
    command += ["-d", json.dumps(patch), url]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return str(answer.get("message", "changed"))


def test_a_taint_of_its_own_node_goes(two_nodes: Cluster, token: str) -> None:
    own = two_nodes.nodes[0].name
    remove = [{"op": "remove", "path": "/spec/taints/1"}]
    assert as_agent(two_nodes, token, own, remove) == "changed"


@pytest.mark.parametrize(
    ("whose", "patch", "why"),
    [
        (1, {"op": "remove", "path": "/spec/taints/0"}, "no other node than the one"),
        (0, {"op": "add", "path": "/metadata/labels/role", "value": "x"}, "no labels and no"),
        (0, {"op": "add", "path": "/spec/taints/-", "value": {**OTHER, "key": "more"}}, "only takes taints"),
    ],
    ids=["another node", "a label", "another taint"],
)  # fmt: skip
def test_nothing_else_does(
    two_nodes: Cluster, token: str, whose: int, patch: dict[str, str], why: str
) -> None:
    node = two_nodes.nodes[whose].name

    def refused() -> str:
        return as_agent(two_nodes, token, node, [patch], "?dryRun=All")

    wait(lambda: why in refused(), f"refused: {why}")


def test_a_token_without_a_node_changes_none(two_nodes: Cluster) -> None:
    token = kubectl(two_nodes.paths, "-n", "kube-system", "create", "token", "kubypass").strip()
    remove = [{"op": "remove", "path": "/spec/taints/1"}]
    said = as_agent(two_nodes, token, two_nodes.nodes[0].name, remove)
    assert "ValidatingAdmissionPolicy 'kubypass'" in said


def test_the_agent_writes_to_its_volumes_alone(two_nodes: Cluster) -> None:
    words = ["-n", "kube-system", "exec", "ds/kubypass", "--", "sh", "-c", "echo x > /tmp/x"]
    done = try_kubectl(two_nodes.paths, *words)
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr
