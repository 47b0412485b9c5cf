# SPDX-License-Identifier: Apache-2.0
"""A cluster in a box: what its places are, that it is a real one, and that nothing of it is left."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubypass_lab.box.enter import run_in
from kubypass_lab.box.kubernetes import cluster as boxes
from kubypass_lab.box.kubernetes import control_plane as programs
from kubypass_lab.box.kubernetes.enter import cluster_target
from kubypass_lab.box.kubernetes.images import AGNHOST
from kubypass_lab.box.kubernetes.kubectl import apply, get_items, kubectl, try_kubectl, wait_kubectl
from kubypass_lab.box.kubernetes.node import start_node, wait_ready
from kubypass_lab.box.kubernetes.paths import ClusterPaths
from kubypass_lab.box.process import wait_until
from tests.kubernetes.failures import crash_program, power_off

Cluster = boxes.Cluster
COMMAND = Path(sys.executable).with_name("kubypass")
GUIDE = Path(__file__).resolve().parents[2] / "examples/guide"

WEB = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, labels: {{app: web}}}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {{matchLabels: {{app: web}}}}
      containers:
      - name: web
        image: {AGNHOST}
        args: [netexec, --http-port=80]
        readinessProbe: {{httpGet: {{path: /healthz, port: 80}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{type: NodePort, selector: {{app: web}}, ports: [{{port: 80}}]}}
"""


def box(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `kubypass box` on this cluster."""
    command, *rest = words
    return subprocess.run(
        [COMMAND, "box", command, "--name", cluster.paths.name, *rest],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def on(cluster: Cluster, where: str, *words: str) -> str:
    """What a command says in a place."""
    result = run_in(cluster_target(cluster, where), words, timeout_s=300)
    return (result.stdout + result.stderr).strip()


@pytest.fixture(scope="module")
def web(two_nodes: Cluster) -> Iterator[Cluster]:
    """Two servers, one on each node, and a Service."""
    apply(two_nodes.paths, WEB)
    rollout = ["rollout", "status", "deployment/web", "--timeout=290s"]
    kubectl(two_nodes.paths, *rollout, timeout_s=300)
    yield two_nodes
    kubectl(two_nodes.paths, "delete", "deployment/web", "service/web")


def test_pods_resolve_and_reach_a_service_by_name(web: Cluster) -> None:
    words = ["exec", "deploy/web", "--", "curl", "-s", "-m", "5", "http://web/hostname"]
    assert kubectl(web.paths, *words).startswith("web-")


def test_node_ports_answer_inside_and_outside(web: Cluster) -> None:
    port = on(
        web, "node1", "kubectl", "get", "svc", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"
    )
    for where in ("node1", "node2", "client"):
        for node in web.nodes:
            url = f"http://{node.address(4)}:{port}/hostname"
            assert on(web, where, "curl", "-s", "-m", "5", url).startswith("web-")


def test_the_kubelet_serves_exec_and_logs(web: Cluster) -> None:
    assert "web-" in kubectl(web.paths, "exec", "deploy/web", "--", "hostname")
    assert "Started HTTP server" in kubectl(web.paths, "logs", "deploy/web")


def test_a_pod_is_entered_by_its_name(web: Cluster) -> None:
    pods: list[dict[str, Any]] = [*get_items(web.paths, "pods", "-l", "app=web")]
    name = str(pods[0]["metadata"]["name"])
    assert box(web, "exec", f"pod/{name}", "--", "hostname").stdout.strip() == name


def test_a_prefix_that_fits_two_pods_is_refused(web: Cluster) -> None:
    answer = box(web, "exec", "pod/web", "--", "hostname")
    assert answer.returncode == 2
    assert "fits several pods" in answer.stderr


def test_processes_of_pods_are_below_their_nodes_cgroup(web: Cluster) -> None:
    for node in web.nodes:
        cgroup = web.paths.node_cgroup(node.name)
        containers = {path.parent.name for path in cgroup.glob("*/cgroup.procs")}
        assert len(containers) > 4
    assert on(web, "node1", "cat", "/proc/self/cgroup").splitlines()[-1] == "0::/init"


def test_a_kubelet_may_not_touch_another_node(two_nodes: Cluster) -> None:
    other = two_nodes.nodes[1].name
    label = ["kubectl", "--kubeconfig=/etc/kubernetes/kubelet.conf", "label", "node", other, "a=b"]
    assert "only its own Node object" in on(two_nodes, "node1", *label)


def test_images_without_a_tag_are_not_pulled(two_nodes: Cluster) -> None:
    paths = two_nodes.paths
    kubectl(paths, "run", "untagged", "--image=nginx")
    wait_kubectl(paths, 300, "wait", "--for=condition=Ready", "pod/untagged", "--timeout=5s")
    kubectl(paths, "delete", "pod/untagged", "--now")


def test_list_shows_nodes_pods_and_services(web: Cluster) -> None:
    found = json.loads(box(web, "list", "-o", "json").stdout)
    assert [row["name"] for row in found["nodes"]] == ["node1", "node2", "client"]
    assert {row["ready"] for row in found["nodes"]} == {"True", "-"}
    assert sum(row["name"].startswith("pod/web-") for row in found["pods"]) == 2
    assert "web" in {row["name"] for row in found["services"]}


def test_kubeconfig_is_printed(two_nodes: Cluster) -> None:
    assert two_nodes.paths.kubeconfig.read_text().strip() in box(two_nodes, "kubeconfig").stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["exec", "--name", "none", "node1", "--", "true"], 1, "box none does not exist"),
        (["kubeconfig", "--name", "none"], 1, "cluster none does not exist"),
        (["up", "--proxy", "none"], 2, "add --kubernetes"),
        (["up", "--kubernetes", "--proxy", "ipvs"], 2, "expected one of"),
        (["up", "--kubernetes", "--nodes", "9"], 2, "--nodes 9"),
    ],
)
def test_mistakes_get_one_line(words: list[str], code: int, said: str) -> None:
    answer = subprocess.run([COMMAND, "box", *words], capture_output=True, text=True, check=False)
    assert answer.returncode == code
    assert len(answer.stderr.splitlines()) == 1
    assert said in answer.stderr


def test_a_cluster_that_is_up_is_not_made_another(two_nodes: Cluster) -> None:
    answer = box(two_nodes, "up", "--kubernetes", "--proxy", "none")
    assert answer.returncode == 2
    assert "take it down first" in answer.stderr


def test_kubectl_is_what_changes_a_cluster(two_nodes: Cluster) -> None:
    answer = box(two_nodes, "delete", "pod/web")
    assert answer.returncode == 2
    assert "use kubectl" in answer.stderr


def test_clusters_live_side_by_side(two_nodes: Cluster, control_plane: Cluster) -> None:
    assert kubectl(control_plane.paths, "get", "nodes") == ""
    assert len(get_items(two_nodes.paths, "nodes")) == 2


def test_an_api_server_comes_back(control_plane: Cluster) -> None:
    paths, topology = control_plane.paths, control_plane.topology
    kubectl(paths, "create", "configmap", "kept")
    crash_program(paths, "kube-apiserver")
    assert try_kubectl(paths, "get", "configmap", "kept").returncode == 1
    programs.start_api_server(paths, topology)
    programs.wait_api(paths, topology)
    kubectl(paths, "delete", "configmap", "kept")


def test_a_node_is_rebooted(web: Cluster) -> None:
    paths, node = web.paths, web.nodes[1]
    power_off(paths, node.name)
    start_node(paths, web.topology, node)
    wait_ready(paths, node)
    url = f"http://{node.address(4)}:"
    port = kubectl(paths, "get", "svc", "web", "-o", "jsonpath={.spec.ports[0].nodePort}")

    def answers() -> bool:
        return on(web, "client", "curl", "-s", "-m", "2", f"{url}{port}/hostname").startswith(
            "web-"
        )

    assert wait_until(answers, 300)


def test_a_control_plane_that_refuses_to_run_says_why(tmp_path: Path) -> None:
    kubekey = tmp_path / "kubekey.yaml"
    text = (GUIDE / "config-sample.yaml").read_text()
    kubekey.write_text(
        text.replace("kubeServiceCIDR: 10.233.0.0/18", "kubeServiceCIDR: 10.234.0.0/31")
    )
    paths = ClusterPaths("refused")
    words = ["up", "--kubernetes", "--name", paths.name, "--nodes", "0", "-f", str(kubekey)]
    answer = subprocess.run([COMMAND, "box", *words], capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert len(answer.stderr.splitlines()) == 1
    assert "kube-apiserver ended:" in answer.stderr
    assert "logs are kept in" in answer.stderr
    assert not paths.exists()


def test_what_a_killed_maker_left_is_taken_down() -> None:
    paths = ClusterPaths("killed")
    words = ["up", "--kubernetes", "--name", paths.name, "--proxy", "none", "--nodes", "1"]
    maker = subprocess.Popen([COMMAND, "box", *words], stdout=subprocess.DEVNULL)
    assert wait_until((paths.root / "processes/k8s-single.json").is_file, 300)
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    assert boxes.down(paths.name, print)
    assert not paths.exists()
    assert str(paths.root) not in Path("/proc/mounts").read_text()
    assert not boxes.down(paths.name, print)
