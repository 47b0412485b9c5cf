# SPDX-License-Identifier: Apache-2.0
"""The guide's scenario with kubectl on a real Kubernetes: first with kube-proxy, then without it."""

from __future__ import annotations

from pathlib import Path

from kubypass_lab.box.checks import Checks
from kubypass_lab.box.demo import run_demo
from kubypass_lab.box.kubernetes import guide as steps
from kubypass_lab.box.kubernetes.cluster import Plan, down, up
from kubypass_lab.box.kubernetes.guide import Guide
from kubypass_lab.box.kubernetes.paths import ClusterPaths

_WITH_KUBE_PROXY = 'kube-proxy-replacement: "false"\nauto-direct-node-routes: "true"\n'


def demo_kubernetes(name: str, kubekey: Path, version: str) -> int:
    """Run all steps in the cluster `name`; returns 0 if every check passed, else 1."""
    logs = ClusterPaths(name).root
    return run_demo(
        name,
        lambda checks: _run_steps(checks, name, kubekey, version),
        logs=lambda: sorted(logs.glob("nodes/*/log/pods/kube-system_kubypass-*/agent/*.log")),
        take_down=lambda: down(name, lambda _: None),
    )


def _run_steps(checks: Checks, name: str, kubekey: Path, version: str) -> None:
    down(name, lambda _: None)
    guide = _make(checks, name, kubekey, version)
    checks.step("b. the control group: kube-proxy serves nginx")
    node_port = steps.create_nginx(guide)
    steps.count_rules(guide, expected=True)
    steps.access(guide, node_port)
    steps.delete_nginx(guide)
    checks.step("c. kube-proxy is kept in a file, and deleted")
    steps.remove_kube_proxy(guide)
    checks.step("d. the guide's settings, and its argument")
    steps.configure(guide)
    checks.step("e. kubypass status")
    steps.show_status(guide)
    checks.step("f. nginx as a NodePort Service")
    node_port = steps.create_nginx(guide)
    checks.step("g. kubypass service list")
    steps.show_services(guide, node_port)
    checks.step("h. iptables-save | grep KUBE-SVC")
    steps.count_rules(guide, expected=False)
    checks.step("i. the guide's five access paths")
    steps.access(guide, node_port)


def _make(checks: Checks, name: str, kubekey: Path, version: str) -> Guide:
    """Make a cluster in the guide's initial state: kubypass connects pods, and kube-proxy serves Services."""
    checks.step(f"a. a Kubernetes {version} cluster from {kubekey}, with kube-proxy")
    settings = ClusterPaths(name).root.with_suffix(".yaml")
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(_WITH_KUBE_PROXY)
    plan = Plan(kubekey, settings, 2, "kube-proxy-iptables", kubypass=True, version=version)
    try:
        cluster = up(name, plan, lambda line: checks.say(f"      {line}"))
    finally:
        settings.unlink()
    guide = Guide(checks, cluster)
    said = guide.type("kubectl get nodes")
    ready = sum(line.split()[1] == "Ready" for line in said.splitlines()[1:])
    checks.check("nodes that are Ready", len(cluster.nodes), ready)
    return guide
