# SPDX-License-Identifier: Apache-2.0
"""A cluster of one bare node and real API servers: what tests put into it, and what its agent makes of that."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from servers import NODE_ADDRESS, Servers, wait

from kubypass.bench.cluster import named_slice
from kubypass.bench.node import BareNode
from kubypass.kube.permissions import CLUSTER_RULES, CONFIG_RULES

KUBYPASS = Path(sys.executable).parent / "kubypass"
NODE = "bench"
TAINT = "node.kubypass.io/agent-not-ready"
SERVICES = "/api/v1/namespaces/default/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
CONFIG_MAPS = "/api/v1/namespaces/kube-system/configmaps"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_GROUP = "rbac.authorization.k8s.io"


class Cluster:
    """Objects and the agent."""

    def __init__(self, servers: Servers, node: BareNode) -> None:
        self.servers = servers
        self.node = node
        self.log = node.root / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """The node, and the agent's account with just the permissions that it says it needs."""
        self.clear()
        taints = [
            {"key": "other", "effect": "NoSchedule"},
            {"key": TAINT, "effect": "NoSchedule"},
            {"key": TAINT, "effect": "NoExecute"},
        ]
        item = {
            "metadata": {"name": NODE, "labels": {"pool": "edge"}},
            "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"], "taints": taints},
        }
        self.servers.create("/api/v1/nodes", item)
        addresses = [{"type": "InternalIP", "address": "192.168.1.31"}]
        self.servers.change(f"/api/v1/nodes/{NODE}/status", {"status": {"addresses": addresses}})
        self.servers.create(
            "/api/v1/namespaces/kube-system/serviceaccounts", {"metadata": {"name": "kubypass"}}
        )
        self.allow(CLUSTER_RULES)
        role = {"metadata": {"name": "kubypass"}, "rules": [_rule(rule) for rule in CONFIG_RULES]}
        self.servers.create(f"{_RBAC}/namespaces/kube-system/roles", role)
        self.servers.create(f"{_RBAC}/namespaces/kube-system/rolebindings", _binding("Role"))
        self.servers.create(f"{_RBAC}/clusterrolebindings", _binding("ClusterRole"))

    def allow(self, rules: Any) -> None:  # noqa: ANN401
        """The ClusterRole is this and nothing else."""
        self.servers.delete(f"{_RBAC}/clusterroles/kubypass")
        role = {"metadata": {"name": "kubypass"}, "rules": [_rule(rule) for rule in rules]}
        self.servers.create(f"{_RBAC}/clusterroles", role)

    def clear(self) -> None:
        """Takes away what tests put in."""
        paths = [
            *(SLICES, "/api/v1/nodes", f"{_RBAC}/clusterroles/kubypass"),
            *(f"{_RBAC}/clusterrolebindings/kubypass", "/api/v1/namespaces/default/pods"),
            f"{_RBAC}/namespaces/kube-system/roles/kubypass",
            f"{_RBAC}/namespaces/kube-system/rolebindings/kubypass",
            "/api/v1/namespaces/kube-system/serviceaccounts/kubypass",
            f"{CONFIG_MAPS}/kubypass-config",
            f"{CONFIG_MAPS}/edge",
            "/api/v1/namespaces/default/events",
        ]
        for path in paths:
            self.servers.delete(path)
        for name in self.service_names():
            self.servers.delete(f"{SERVICES}/{name}")

    def service_names(self) -> list[str]:
        """Of those that tests made."""
        items = self.servers.curl(SERVICES)[1]["items"]
        names = [item["metadata"]["name"] for item in items]
        return [name for name in names if name != "kubernetes"]

    def service(self, name: str, address: str, **spec: object) -> None:
        """A service with one port, 80."""
        about = {"clusterIP": address, "ports": [{"port": 80}], **spec}
        self.servers.create(SERVICES, {"metadata": {"name": name}, "spec": about})

    def slice(self, service: str, addresses: list[str], **annotations: str) -> None:
        """The slice of a service, new or in the place of the one before."""
        item = named_slice(service, addresses, 8080)
        item["metadata"]["annotations"] = annotations
        code, _ = self.servers.curl(f"{SLICES}/{service}-slice", "PUT", item)
        if code == 404:
            self.servers.create(SLICES, item)
        else:
            assert code == 200

    def account(self, name: str = "agent") -> Path:
        """A kubeconfig with a token of the agent's service account."""
        return self.servers.kubeconfig(name, {"token": self.servers.token("kubypass")})

    def command(self, *words: str, prefix: tuple[str, ...] = ()) -> list[str]:
        """The agent's, in the node's namespace."""
        node = self.node
        return [
            *("setpriv", "--pdeathsig", "TERM", "nsenter", f"--net=/run/netns/{node.namespace}"),
            *(*prefix, str(KUBYPASS), "agent", "--node", NODE, "--run", str(node.run)),
            *("--bpffs", str(node.root / "bpf"), "--cgroup", str(node.cgroup), *words),
        ]

    @contextmanager
    def agent(
        self, *words: str, ready: bool = True, prefix: tuple[str, ...] = ()
    ) -> Iterator[None]:
        """An agent for the length of a block; waits until it is ready."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(self.command(*words, prefix=prefix), stderr=log)
        self.process = process
        try:
            if ready:
                wait(lambda: self.healthy() or process.poll() is not None, "the agent is ready")
                assert process.poll() is None, self.said()
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, self.said()

    def refused(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """An agent that is expected to end by itself."""
        prefix = ("env", *(f"{key}={value}" for key, value in environment.items()))
        return subprocess.run(
            self.command(*words, prefix=prefix), capture_output=True, text=True, check=False, timeout=60
        )  # fmt: skip

    def said(self) -> str:
        """The agent's log."""
        return self.log.read_text()

    def healthy(self) -> bool:
        """After the first complete sync."""
        return (self.node.run / "agent.sock").exists() and self.node.ask("/healthz")[0] == 200

    def status(self) -> dict[str, Any]:
        """The agent's."""
        return self.node.status()

    def problems(self) -> list[str]:
        """Of the agent."""
        return [f"{p['subject']}: {p['message']}" for p in self.status()["problems"]]

    def writes(self) -> int:
        """Entries of maps that the agent has written."""
        return int(self.status()["writes"]["maps"])

    def backends(self, frontend: str) -> list[str] | None:
        """Of a frontend, in the kernel; None where there is no such frontend."""
        rows = json.loads(self.node.ask("/services")[1])["services"]
        found = {row["frontend"]: [b["address"] for b in row["backends"]] for row in rows}
        return sorted(found[frontend]) if frontend in found else None

    def connected(self) -> bool:
        """Whether the agent follows the API."""
        return bool(self.status()["kubernetes"]["connected"])

    def metric(self, name: str) -> float:
        """Sum of the samples of a metric."""
        lines = self.node.ask("/metrics")[1].decode().splitlines()
        return sum(
            float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{"))
        )

    def cut(self, *, off: bool = True) -> None:
        """The link to the servers swallows everything, without a word."""
        change = "add" if off else "delete"
        where = f"/run/netns/{self.servers.namespace}"
        words = ["ip", "route", change, "blackhole", f"{NODE_ADDRESS}/32", "metric", "0"]
        if off:
            words = ["ip", "route", "replace", "blackhole", f"{NODE_ADDRESS}/32"]
        subprocess.run(["nsenter", f"--net={where}", *words], check=True)


def _rule(rule: Any) -> dict[str, list[str]]:  # noqa: ANN401
    return {"apiGroups": [rule.group], "resources": [rule.resource], "verbs": list(rule.verbs)}


def _binding(kind: str) -> dict[str, object]:
    account = {"kind": "ServiceAccount", "name": "kubypass", "namespace": "kube-system"}
    role = {"apiGroup": _GROUP, "kind": kind, "name": "kubypass"}
    return {"metadata": {"name": "kubypass"}, "roleRef": role, "subjects": [account]}


def seconds(since: float) -> float:
    """Since a moment of time.monotonic()."""
    return time.monotonic() - since
