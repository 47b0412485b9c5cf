# SPDX-License-Identifier: Apache-2.0
"""Whatever happens to agents, API servers, nodes and Deployments: no request is lost, and no answer is wrong.

`make soak-kubernetes` runs the same for longer (LOST_*). LOST_PROXY=kube-proxy-nftables is the control group.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kubypass_lab.box.kubernetes import control_plane as programs
from kubypass_lab.box.kubernetes.cluster import Cluster
from kubypass_lab.box.kubernetes.kubectl import apply, kubectl, try_kubectl, wait_kubectl
from kubypass_lab.box.kubernetes.node import start_node, wait_ready
from kubypass_lab.box.kubernetes.proxies import parse_proxy
from kubypass_lab.box.paths import CLIENT
from kubypass_lab.box.process import wait_until
from tests.kubernetes.churn import check_served, churn
from tests.kubernetes.conftest import in_a_box
from tests.kubernetes.failures import crash_program, power_off
from tests.kubernetes.other_version import (
    VERSION,
    build_other_image,
    import_image,
    layouts,
    use_image,
)
from tests.kubernetes.serving import (
    AGENTS,
    NAMESPACE,
    Served,
    agents,
    ask_agent,
    check_leases,
    kill_agent,
    make_askers,
    remove,
    serve,
    wait_rolled_out,
)
from tests.kubernetes.streams import Traffic, traffic

NODES = int(os.environ.get("LOST_NODES", "2"))
PROXY = parse_proxy(os.environ.get("LOST_PROXY", "kubypass"))
KILLS = int(os.environ.get("LOST_KILLS", "3"))
AWAY_S = float(os.environ.get("LOST_AWAY_S", "60"))
PODS = int(os.environ.get("LOST_PODS", "20"))
CHURN_S = float(os.environ.get("LOST_CHURN_S", "60"))
SEED = int(os.environ.get("LOST_SEED", "0")) or random.randrange(1, 1 << 30)
needs_kubypass = pytest.mark.skipif(PROXY != "kubypass", reason="about our agent")


@dataclass(frozen=True, slots=True)
class Scene:
    """A cluster with servers on all nodes (`steady`) and on the first one only (`far`)."""

    cluster: Cluster
    steady: Served
    far: Served

    @property
    def services(self) -> list[Served]:
        return [self.steady, self.far]


def make_scene(cluster: Cluster) -> Scene:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    apply(cluster.paths, json.dumps(namespace))
    wait_kubectl(cluster.paths, 300, "-n", NAMESPACE, "get", "serviceaccount", "default")
    make_askers(cluster)
    first = cluster.nodes[0].name
    return Scene(cluster, serve(cluster, "steady", 4), serve(cluster, "far", 2, first))


@pytest.fixture(scope="module")
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    print(f"LOST_SEED={SEED}")
    random.seed(SEED)
    if (NODES, PROXY) == (2, "kubypass"):
        made = None
        cluster = request.getfixturevalue("two_nodes")
    else:
        made = in_a_box("lost", NODES, PROXY)
        cluster = next(made)
    try:
        yield make_scene(cluster)
    finally:
        kubectl(cluster.paths, "delete", "namespace", NAMESPACE, "--timeout=290s", timeout_s=300)
        if made:
            next(made, None)


def check(found: Traffic, request: pytest.FixtureRequest) -> None:
    """Says what was asked, and that all of it was answered well; and agents that run had nothing to repair."""
    failures = found.failures()
    print(
        f"{request.node.name}: {found.requests} requests, {len(failures)} failed, slowest {found.slowest_s:.2f} s, "
        f"{len(found.late)} late, {found.ended} connections ended with their pods"
    )
    print("\n".join(found.late[:20]))
    assert not failures, f"{len(failures)} of {found.requests}:\n" + "\n".join(failures[:40])
    if PROXY == "kubypass":
        cluster = request.getfixturevalue("scene").cluster
        said = kubectl(cluster.paths, "logs", *AGENTS, "--all-pods", "--tail=-1")
        odd = [line for line in said.splitlines() if "Traceback" in line or "repaired" in line]
        assert not odd


def wait_asked(found: Traffic, more: int) -> None:
    """Traffic goes on for so many requests."""
    wanted = found.asked() + more
    assert wait_until(lambda: found.asked() >= wanted, 300), "traffic has come to an end"


def directory(parent: Path, name: str) -> Path:
    path = parent / name
    path.mkdir()
    return path


@needs_kubypass
def test_agents_are_killed(scene: Scene, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """While pods of their node come and go."""
    cluster = scene.cluster
    with traffic(cluster, tmp_path, scene.services) as found:
        serve(cluster, "moving", 2)
        killed: Counter[str] = Counter()
        for _ in range(KILLS):
            node = random.choice(cluster.nodes).name
            killed[node] += 1
            kubectl(cluster.paths, "-n", NAMESPACE, "rollout", "restart", "deployment/moving")
            wait_asked(found, random.randrange(1000))
            if killed[node] % 3 == 0:  # the kubelet waits longer after each crash of a pod
                name = str(agents(cluster)[node]["metadata"]["name"])
                kubectl(cluster.paths, "-n", "kube-system", "delete", "pod", name)
                wait_rolled_out(cluster, "daemonset/kubypass", 90, "kube-system")
            else:
                kill_agent(cluster, node)
        wait_rolled_out(cluster, "deployment/moving")
    remove(cluster, "moving")
    check(found, request)
    check_leases(cluster)
    check_served(cluster)


@needs_kubypass
def test_agents_are_restarted(scene: Scene, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    cluster = scene.cluster
    with traffic(cluster, tmp_path, scene.services) as found:
        kubectl(cluster.paths, "rollout", "restart", *AGENTS)
        wait_rolled_out(cluster, "daemonset/kubypass", 180, "kube-system")
    check(found, request)


@needs_kubypass
def test_another_layout_comes_and_goes(
    scene: Scene, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """An upgrade, and the way back."""
    cluster = scene.cluster
    own = layouts(cluster)
    root = tmp_path / "other"
    root.mkdir()
    import_image(cluster, build_other_image(root))
    before = kubectl(cluster.paths, "get", *AGENTS, "-o", "jsonpath={..containers[0].image}")
    try:
        with traffic(cluster, tmp_path, scene.services) as found:
            use_image(cluster, f"kubypass/kubypass:{VERSION}")
            others = layouts(cluster)
            wait_asked(found, 1000)
            use_image(cluster, before)
            wait_asked(found, 1000)
    finally:
        use_image(cluster, before)
    check(found, request)
    assert layouts(cluster) == own
    assert not own & others
    for node in cluster.nodes:
        status = json.loads(ask_agent(cluster, node.name, "status", "-o", "json"))
        assert "entries were carried over" in str(status["upgrade"])


def test_the_api_server_is_restarted(
    scene: Scene, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    paths, topology = scene.cluster.paths, scene.cluster.topology
    with traffic(scene.cluster, tmp_path, scene.services) as found:
        crash_program(paths, "kube-apiserver")
        programs.start_api_server(paths, topology)
        programs.wait_api(paths, topology)
        wait_asked(found, 1000)
        change_and_look(scene, found)
    check(found, request)


def test_the_control_plane_is_away(
    scene: Scene, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The whole control plane is away: a controller manager that outlives its API server gives up all nodes."""
    paths, topology = scene.cluster.paths, scene.cluster.topology
    with traffic(scene.cluster, tmp_path, scene.services) as found:
        for name in ("kube-controller-manager", "kube-scheduler", "kube-apiserver"):
            crash_program(paths, name)
        assert not wait_until(lambda: try_kubectl(paths, "get", "nodes").returncode == 0, AWAY_S)
        programs.start_api_server(paths, topology)
        programs.wait_api(paths, topology)
        programs.start_controllers(paths, topology)
        change_and_look(scene, found)
    check(found, request)
    check_leases(scene.cluster)


def change_and_look(scene: Scene, found: Traffic) -> None:
    """What is changed now is served soon: pods that go get no more requests, a new service is there."""
    cluster = scene.cluster
    kubectl(cluster.paths, "-n", NAMESPACE, "rollout", "restart", "deployment/far")
    serve(cluster, "news", 1)
    if PROXY == "kubypass":
        check_served(cluster)
    remove(cluster, "news")
    wait_rolled_out(cluster, "deployment/far")
    wait_asked(found, 1000)


def test_a_node_is_rebooted(scene: Scene, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """What is elsewhere goes on; what is on it comes back, and nobody is answered by another's pod."""
    cluster, node = scene.cluster, scene.cluster.nodes[-1]
    others = [each.alias for each in cluster.nodes[:-1]]
    at = [CLIENT, *others, *(f"pod/asker-{alias}" for alias in others)]
    near = [serve(cluster, f"near{number}", 3, node.name) for number in range(2)]
    elsewhere, all_of_it, after = (directory(tmp_path, str(number)) for number in range(3))
    with (
        traffic(cluster, elsewhere, [scene.far], at=at, through=others) as found,
        traffic(cluster, all_of_it, [scene.steady, *near], at=at, may_fail=True) as touched,
    ):
        power_off(cluster.paths, node.name)
        wait_asked(found, 2000)
        start_node(cluster.paths, cluster.topology, node)
        wait_ready(cluster.paths, node)
        wait_back(scene, node.name)
    check(found, request)
    check(touched, request)
    check_leases(cluster)
    with traffic(cluster, after, [*scene.services, *near]) as found:
        wait_asked(found, 4000)
    check(found, request)
    remove(cluster, *(each.name for each in near))


def wait_back(scene: Scene, node: str) -> None:
    """All pods of a node run again, and are ready."""
    paths = scene.cluster.paths
    if PROXY == "kubypass":
        wait_rolled_out(scene.cluster, "daemonset/kubypass", 120, "kube-system")
    chosen = ["pods", "-n", NAMESPACE, f"--field-selector=spec.nodeName={node}"]

    def restarted() -> bool:
        text = kubectl(paths, "get", *chosen, "-o", "jsonpath={..restartCount}")
        return "0" not in text.split()

    assert wait_until(restarted, 300)
    wait_kubectl(paths, 300, "wait", *chosen, "--for=condition=Ready", "--timeout=5s")


def test_a_deployment_is_updated(
    scene: Scene, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    cluster = scene.cluster
    rolling = serve(cluster, "rolling", PODS)
    with traffic(cluster, tmp_path, [rolling]) as found:
        kubectl(cluster.paths, "-n", NAMESPACE, "rollout", "restart", "deployment/rolling")
        wait_rolled_out(cluster, "deployment/rolling", 300 + 3 * PODS)
        check_leases(cluster, 180)
    check(found, request)
    remove(cluster, "rolling")
    check_leases(cluster, 180)


def test_services_come_and_go(scene: Scene, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with traffic(scene.cluster, tmp_path, scene.services) as found:
        done = churn(scene.cluster, CHURN_S)
    print(f"{done} changes in {CHURN_S:.0f} s")
    check(found, request)
    if PROXY == "kubypass":
        check_served(scene.cluster)
