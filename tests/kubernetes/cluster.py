# SPDX-License-Identifier: Apache-2.0
"""A cluster of one bare node and real API servers: what tests put into it, and what its agent makes of that."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kubypass.kube.client.permissions import CLUSTER_RULES, CONFIG_RULES, Rule, config_rules
from kubypass_lab.bench.cluster import named_slice
from kubypass_lab.bench.node import BareNode
from tests.kubernetes.servers import PORT, Servers, link_to
from tests.program import KUBYPASS
from tests.waiting import wait

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
        self.servers.create(f"{_RBAC}/namespaces/kube-system/roles", _role(CONFIG_RULES))
        self.servers.create(f"{_RBAC}/namespaces/kube-system/rolebindings", _binding("Role"))
        self.servers.create(f"{_RBAC}/clusterrolebindings", _binding("ClusterRole"))

    def allow(self, rules: Iterable[Rule]) -> None:
        """The ClusterRole is this and nothing else."""
        self.servers.delete(f"{_RBAC}/clusterroles/kubypass")
        self.servers.create(f"{_RBAC}/clusterroles", _role(rules))

    def allow_config_maps(self, names: Iterable[str]) -> None:
        """The Role admits the ConfigMaps of these names and no others."""
        path = f"{_RBAC}/namespaces/kube-system/roles"
        self.servers.delete(f"{path}/kubypass")
        self.servers.create(path, _role(config_rules(names)))

    def clear(self) -> None:
        """Takes away what tests put in."""
        paths = [
            *(f"{SLICES}?labelSelector=test", "/api/v1/nodes", f"{_RBAC}/clusterroles/kubypass"),
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
        """The names of Services that tests made."""
        items = self.servers.curl(SERVICES)[1]["items"]
        names = [item["metadata"]["name"] for item in items]
        return [name for name in names if name != "kubernetes"]

    def service(self, name: str, address: str, **spec: Any) -> None:
        """A service with one port, 80."""
        about = {"clusterIP": address, "ports": [{"port": 80}], **spec}
        self.servers.create(SERVICES, {"metadata": {"name": name}, "spec": about})

    def slice(
        self, service: str, addresses: list[str], port: int = PORT, **annotations: str
    ) -> None:
        """The slice of a service, new or instead of the previous one."""
        item: dict[str, Any] = named_slice(service, addresses, 8080)
        item["metadata"]["annotations"] = annotations
        item["metadata"]["labels"]["test"] = ""
        code, _ = self.servers.curl(f"{SLICES}/{service}-slice", "PUT", item, port)
        if code == 404:
            self.servers.create(SLICES, item)
        else:
            assert code == 200

    def account(self, name: str = "agent") -> Path:
        """A kubeconfig with a token of the agent's service account."""
        return self.servers.kubeconfig(name, {"token": self.servers.token("kubypass")})

    def service_account(self) -> dict[str, str]:
        """The environment of a pod: where its service account is."""
        directory = self.servers.root / "account"
        directory.mkdir(exist_ok=True)
        (directory / "token").write_text(self.servers.token("kubypass"))
        shutil.copy(self.servers.pki / "ca.crt", directory / "ca.crt")
        return {"KUBYPASS_SERVICE_ACCOUNT": str(directory)}

    def command(self, *words: str, prefix: tuple[str, ...] = ()) -> list[str]:
        """The agent's, in the node's namespace."""
        node = self.node
        return [
            *("setpriv", "--pdeathsig", "TERM", "nsenter", f"--net=/run/netns/{node.namespace}"),
            *(*prefix, KUBYPASS, "agent", "--node", NODE, *node.agent_options, *words),
        ]

    @contextmanager
    def agent(
        self,
        *words: str,
        ready: bool = True,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Iterator[None]:
        """An agent for the length of a block; waits until it is ready."""
        prefix = ("env", *(f"{key}={value}" for key, value in environment.items()))
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
            self.command(*words, prefix=prefix), capture_output=True, text=True, check=False, timeout=300
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
        """The problems that the agent reports."""
        return [f"{p['subject']}: {p['message']}" for p in self.status()["problems"]]

    def writes(self) -> int:
        """Entries of maps that the agent has written."""
        return int(self.status()["writes"]["maps"])

    def backends(self, frontend: str) -> list[str] | None:
        """The backends of a frontend in the kernel, or None where there is no such frontend."""
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

    def proxy_health(self, path: str) -> tuple[int, str]:
        """What kube-proxy's health port answers on the node."""
        command = ["curl", "-s", "-w", "\n%{http_code}", f"http://127.0.0.1:10256{path}"]
        where = f"--net=/run/netns/{self.node.namespace}"
        done = subprocess.run(
            ["nsenter", where, *command], capture_output=True, text=True, check=False
        )
        body, _, code = done.stdout.rpartition("\n")
        return int(code), body

    @contextmanager
    def away(self) -> Iterator[None]:
        """The node's link to the servers is down for the length of a block."""
        link = ["ip", "-n", self.node.namespace, "link", "set", "api0"]
        subprocess.run([*link, "down"], check=True)
        try:
            wait(lambda: not self.connected(), "the API is away", 90)
            yield
        finally:
            subprocess.run([*link, "up"], check=True)
            link_to(self.node.namespace)


def _role(rules: Iterable[Rule]) -> dict[str, object]:
    return {"metadata": {"name": "kubypass"}, "rules": [rule.as_object() for rule in rules]}


def _binding(kind: str) -> dict[str, object]:
    account = {"kind": "ServiceAccount", "name": "kubypass", "namespace": "kube-system"}
    role = {"apiGroup": _GROUP, "kind": kind, "name": "kubypass"}
    return {"metadata": {"name": "kubypass"}, "roleRef": role, "subjects": [account]}
