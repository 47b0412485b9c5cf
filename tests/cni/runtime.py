# SPDX-License-Identifier: Apache-2.0
"""What a container runtime does: makes network namespaces and calls the plugin, as the specification says."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubypass.cni.conflist import CONFLIST, PLUGIN
from kubypass_lab.bench.cluster import write_file
from kubypass_lab.bench.node import BareNode, agent, bare_node
from kubypass_lab.box.patience import DEADLINE_S

PROGRAM = Path(__file__).resolve().parents[2] / "build/cni" / PLUGIN
NODE_NAME = "bench"
ADDRESSES = ("192.168.1.31", "fd00::31")
CIDRS = ("10.1.2.0/24", "fd01:2::/112")


def call_plugin(
    program: Path, command: str, config: str | Mapping[str, object], **environment: str
) -> tuple[int, Any]:
    """Exit code, and what was printed: JSON, None where it is nothing."""
    done = subprocess.run(
        [program],
        input=config if isinstance(config, str) else json.dumps(config),
        env={"CNI_COMMAND": command, **{f"CNI_{k}": v for k, v in environment.items()}},
        capture_output=True, text=True, check=False, timeout=2 * DEADLINE_S,
    )  # fmt: skip
    assert not done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else None


@dataclass
class Runtime:
    """One node's."""

    node: BareNode
    version: str = "1.0.0"
    namespaces: list[str] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def conf(self) -> Path:
        return self.node.root / "net.d"

    @property
    def bin(self) -> Path:
        return self.node.root / "cni-bin"

    def options(self) -> list[str]:
        """The options of an agent."""
        return [f"--cni-conf-dir={self.conf}", f"--cni-bin-dir={self.bin}"]

    def config(self, **more: Any) -> dict[str, object]:
        """The configuration that is given to the plugin: of the list, what concerns it."""
        listed = json.loads((self.conf / CONFLIST).read_bytes())
        named = {"cniVersion": self.version, "name": listed["name"]}
        return {**listed["plugins"][0], **named, **more}

    def netns(self, container: str) -> str:
        """The pod's namespace."""
        return f"/run/netns/{self.node.namespace}-{container}"

    def sandbox(self, container: str) -> str:
        """Makes the pod's namespace; its path."""
        name = f"{self.node.namespace}-{container}"
        subprocess.run(["ip", "netns", "add", name], check=True)
        self.namespaces.append(name)
        return f"/run/netns/{name}"

    def call(self, command: str, container: str = "", **config: Any) -> tuple[int, Any]:
        """One call."""
        where = self.netns(container)
        environment = {
            "CONTAINERID": container,
            "NETNS": where,
            "IFNAME": "eth0",
            "PATH": str(self.bin),
        }
        pod = f"K8S_POD_NAMESPACE=default;K8S_POD_NAME={container};K8S_POD_UID=uid-{container}"
        environment["ARGS"] = f"IgnoreUnknown=1;{pod}"
        program = self.bin / PLUGIN
        return call_plugin(program, command, self.config(**config), **environment)

    def add(self, container: str) -> dict[str, Any]:
        """A new pod: its result."""
        if not Path(self.netns(container)).exists():
            self.sandbox(container)
        code, result = self.call("ADD", container)
        assert code == 0, result
        self.results[container] = result
        return result

    def delete(self, container: str) -> None:
        """Calls DEL, as at the end of a pod."""
        code, result = self.call("DEL", container, prevResult=self.results.pop(container, None))
        assert (code, result) == (0, None)

    def addresses(self, container: str) -> list[str]:
        """Without prefixes."""
        return addresses_of(self.results[container])

    def clean(self) -> None:
        """The namespaces end."""
        for name in self.namespaces:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def addresses_of(result: dict[str, Any]) -> list[str]:
    """The addresses in an ADD's result, without prefixes."""
    return [ip["address"].partition("/")[0] for ip in result["ips"]]


def write_node(
    node: BareNode,
    cidrs: tuple[str, ...] = CIDRS,
    name: str = NODE_NAME,
    addresses: tuple[str, ...] = ADDRESSES,
) -> None:
    """A Node object."""
    spec = {"podCIDRs": list(cidrs)} if cidrs else {}
    status = {"addresses": [{"type": "InternalIP", "address": one} for one in addresses]}
    fields = {"kind": "Node", "apiVersion": "v1", "metadata": {"name": name}}
    write_file(node.manifests / f"node-{name}.json", {**fields, "spec": spec, "status": status})


@contextmanager
def runtime() -> Iterator[Runtime]:
    """A node with a Node object, without an agent."""
    with bare_node() as node:
        made = Runtime(node)
        write_node(node)
        command = ["ip", "-n", node.namespace, "addr", "add", "fd00::31/64", "dev", "eth0", "nodad"]
        subprocess.run(command, check=True)
        made.conf.mkdir()
        try:
            yield made
        finally:
            made.clean()


@contextmanager
def running(made: Runtime, *options: str) -> Iterator[float]:
    """With an agent, for the length of a block."""
    with agent(made.node, *made.options(), *options) as started:
        yield started


def inside(namespace: str, *command: str) -> str:
    """What a command says in a network namespace."""
    done = subprocess.run(
        ["nsenter", f"--net={namespace}", *command],
        capture_output=True, text=True, check=True, timeout=2 * DEADLINE_S,
    )  # fmt: skip
    return done.stdout


def problems(node: BareNode) -> list[str]:
    """The problems that the status lists."""
    return [f"{p['subject']}: {p['message']}" for p in node.status()["problems"]]


def kill(node: BareNode) -> None:
    """The agent, without warning."""
    os.kill(node.status()["agent"]["pid"], 9)
