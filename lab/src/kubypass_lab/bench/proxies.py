# SPDX-License-Identifier: Apache-2.0
"""The compared proxies: how each starts on a node, when it is ready, and how many services it serves."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

from kubypass.errors import ConfigError, KubypassError
from kubypass.kernel.netns import inside
from kubypass.kube.client.permissions import CLUSTER_RULES
from kubypass_lab.bench.cluster import Object
from kubypass_lab.bench.kubernetes_api import KUBE_PROXY, KUBYPASS
from kubypass_lab.bench.kubernetes_node import ProxyNode
from kubypass_lab.bench.kubernetes_objects import POD_CIDR
from kubypass_lab.box.kubernetes.programs import programs_directory

_HEALTH_PORT = 10256
_OK = 200
_IPTABLES = [
    f"{family}tables{action}" for family in ("ip", "ip6") for action in ("", "-save", "-restore")
]
_KUBYPASS = Path(sys.executable).parent / "kubypass"


class Proxy(ABC):
    """A program that serves services on a node."""

    name: str

    @abstractmethod
    def command(self, node: ProxyNode) -> list[str]:
        """The command that starts the proxy on a node; it writes the files that the proxy needs."""

    @abstractmethod
    def healthy(self, node: ProxyNode) -> bool:
        """Whether the proxy reports that it is healthy."""

    @abstractmethod
    def count_services(self, node: ProxyNode) -> int:
        """The number of service ports in the kernel."""


class KubeProxy(Proxy):
    """kube-proxy with its defaults, in one of its modes.

    Its image has both variants of the iptables programs, as Debian does. `iptables` means the legacy variant, which
    is much faster with many chains. `iptables-nft` means the one that Debian and the image's wrapper prefer.
    """

    def __init__(self, variant: str) -> None:
        self.name = f"kube-proxy {variant}"
        self._variant = variant

    def command(self, node: ProxyNode) -> list[str]:
        """kube-proxy with a configuration file, and with its variant of the programs first in PATH."""
        configuration = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": self._variant.removesuffix("-nft"),
            "hostnameOverride": node.name,
            "clientConnection": {"kubeconfig": str(node.server.kubeconfig(KUBE_PROXY))},
            "clusterCIDR": POD_CIDR,
            "bindAddress": "0.0.0.0",  # noqa: S104
            "conntrack": {"maxPerCore": 0, "min": 0},  # these limits belong to the machine
        }
        path, programs = node.root / "kube-proxy.json", node.root / "programs"
        path.write_text(json.dumps(configuration))
        programs.mkdir()
        for name in _IPTABLES:
            (programs / name).symlink_to(self._iptables())
        environment = [
            f"PATH={programs}:{os.environ['PATH']}",
            f"XTABLES_LOCKFILE={node.root}/xtables.lock",
        ]
        return ["env", *environment, str(programs_directory() / "kube-proxy"), f"--config={path}"]

    def _iptables(self) -> str:
        name = f"xtables-{'nft' if self._variant == 'iptables-nft' else 'legacy'}-multi"
        found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if found is None:
            raise KubypassError(f"{name} is not installed", "apt-get install iptables")
        return found

    def healthy(self, node: ProxyNode) -> bool:
        """Whether /healthz answers 200, which it does from the start; the first answer to a client comes later."""
        with inside(node.namespace), suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", _HEALTH_PORT, timeout=5)
            try:
                connection.request("GET", "/healthz")
                return connection.getresponse().status == _OK
            finally:
                connection.close()
        return False

    def count_services(self, node: ProxyNode) -> int:
        """The number of rules in KUBE-SERVICES, or of elements in the map of services."""
        if self._variant != "nftables":
            rules = node.run([self._iptables(), "iptables-save", "-t", "nat"])
            return len(re.findall(r"^-A KUBE-SERVICES .* -j KUBE-SVC-", rules, re.MULTILINE))
        addresses = node.run(["nft", "list", "map", "ip", "kube-proxy", "service-ips"])
        return addresses.count(": goto service-")


class Kubypass(Proxy):
    """The agent with its defaults, of this version or another."""

    name = "kubypass"

    def __init__(self, program: Path = _KUBYPASS) -> None:
        self._program = program

    def command(self, node: ProxyNode) -> list[str]:
        """The agent, with only the options that tell it where everything is."""
        return [
            *[str(self._program), "agent", "--kubeconfig", str(node.server.kubeconfig(KUBYPASS))],
            *["--node", node.name, "--run", str(node.root / "run")],
            *["--bpffs", str(node.bpffs), "--cgroup", str(node.cgroup)],
        ]

    def healthy(self, node: ProxyNode) -> bool:
        """Whether the agent has finished its first complete sync."""
        return _ask(node, "/healthz") is not None

    def count_services(self, node: ProxyNode) -> int:
        """The number of frontends in the agent's map."""
        rows = json.loads(_ask(node, "/services") or '{"services": []}')["services"]
        return len(rows)


def _ask(node: ProxyNode, path: str) -> bytes | None:
    """The agent's answer; None if its status is not 200."""
    socket = node.root / "run/agent.sock"
    command = ["curl", "-sf", "-m", "30", "--unix-socket", str(socket), f"http://agent{path}"]
    done = subprocess.run(command, capture_output=True, check=False)
    return None if done.returncode else done.stdout


def choose_proxies(names: str, program: Path | None) -> tuple[Proxy, ...]:
    """The proxies that `names`, separated by commas, lists. ConfigError: an unknown name.

    `program` is the kubypass to measure.
    """
    known: dict[str, Proxy] = {
        "kubypass": Kubypass(program) if program else Kubypass(),
        **{name: KubeProxy(name) for name in ("iptables", "iptables-nft", "nftables")},
    }
    for name in (chosen := names.split(",")):
        if name not in known:
            raise ConfigError(f"--proxies {names}: {name!r}, expected {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(chosen))


def kubypass_rights() -> list[Object]:
    """The ClusterRole of an agent, bound to the user of its kubeconfig."""
    group, metadata = "rbac.authorization.k8s.io", {"name": "kubypass"}
    kind = {"apiVersion": f"{group}/v1", "metadata": metadata}
    rules = [rule.as_object() for rule in CLUSTER_RULES]
    role = {"apiGroup": group, "kind": "ClusterRole", **metadata}
    subjects = [{"apiGroup": group, "kind": "User", "name": KUBYPASS.user}]
    return [
        {**kind, "kind": "ClusterRole", "rules": rules},
        {**kind, "kind": "ClusterRoleBinding", "roleRef": role, "subjects": subjects},
    ]
