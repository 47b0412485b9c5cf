# SPDX-License-Identifier: Apache-2.0
"""A real etcd and real API servers in a network namespace of their own, and what tests say to them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from kubypass_lab.box.kubernetes import control_plane, pki
from kubypass_lab.box.kubernetes.programs import programs_directory
from tests.waiting import wait

ADDRESS, NODE_ADDRESS = "172.31.255.1", "172.31.255.2"
SERVICES = "10.96.0.0/16"
PORT = control_plane.PORT
_START_S = 240.0


@dataclass
class Servers:
    """etcd and API servers, by port."""

    root: Path
    namespace: str
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def pki(self) -> Path:
        """The directory of their authority."""
        return self.root / "pki"

    def _start(self, name: str, program: str, arguments: list[str]) -> None:
        command = ["setpriv", "--pdeathsig", "KILL", "nsenter"]
        command += [f"--net=/run/netns/{self.namespace}", str(programs_directory() / program)]
        with (self.root / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen([*command, *arguments], stdout=log, stderr=log)

    def start_etcd(self) -> None:
        """Starts etcd on loopback."""
        self._start("etcd", "etcd", control_plane.etcd_arguments(self.root / "etcd"))

    def start(self, port: int = PORT, *extra: str, certificate: str = "apiserver") -> None:
        """An API server; does not wait for it. Of an option that is given twice the last counts."""
        ranges = control_plane.Ranges(ADDRESS, SERVICES, "", ())
        arguments = control_plane.api_server_arguments(self.pki, ranges)
        shown = self.pki / certificate
        arguments += [f"--secure-port={port}", f"--cert-dir={self.root}"]
        arguments += [f"--tls-cert-file={shown}.crt", f"--tls-private-key-file={shown}.key"]
        self._start(str(port), "kube-apiserver", [*arguments, *extra])

    def wait_ready(self, port: int = PORT) -> None:
        """Until it serves."""
        wait(lambda: self.curl("/readyz", port=port)[0] == 200, f"API server {port}", _START_S)

    def wait_answer(self, port: int) -> None:
        """Until it listens, whatever its certificate."""
        where = ["nsenter", f"--net=/run/netns/{self.namespace}"]
        command = [*where, "curl", "-sk", "-m", "5", "-o", "/dev/null", f"https://{ADDRESS}:{port}"]
        wait(lambda: subprocess.run(command, check=False).returncode == 0, f"{port}", _START_S)

    @contextmanager
    def also_at(self, address: str, node_namespace: str) -> Iterator[None]:
        """The servers answer on one more address."""
        here = ["addr", "add", f"{address}/32", "dev", "lo"]
        subprocess.run(["ip", "-n", self.namespace, *here], check=True)
        route = ["route", "add", f"{address}/32", "dev", "api0"]
        subprocess.run(["ip", "-n", node_namespace, *route], check=True)
        try:
            yield
        finally:
            here[1] = "delete"
            subprocess.run(["ip", "-n", self.namespace, *here], check=True)

    def kill(self, name: str | int = PORT, number: int = signal.SIGKILL) -> None:
        """Ends one, and waits for that."""
        process = self.processes.pop(str(name))
        process.send_signal(number)
        process.wait(60)

    def curl(
        self, path: str, method: str = "GET", body: object = None, port: int = PORT, kind: str = ""
    ) -> tuple[int, Any]:
        """One request of the administrator: code and answer; (0, None) where nobody answers."""
        ca, admin = self.pki / "ca.crt", self.pki / "admin"
        command = ["nsenter", f"--net=/run/netns/{self.namespace}", "curl", "-sS", "-m", "20"]
        command += ["--cacert", str(ca), "--cert", f"{admin}.crt", "--key", f"{admin}.key"]
        command += ["-X", method, "-w", "\n%{http_code}", f"https://{ADDRESS}:{port}{path}"]
        if body is not None:
            command += ["-H", f"Content-Type: {kind or 'application/json'}", "--data-binary", "@-"]
        text = json.dumps(body) if body is not None else ""
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        answer, _, code = done.stdout.rpartition("\n")
        return int(code or 0), json.loads(answer) if answer.startswith("{") else answer

    def create(self, path: str, item: object) -> Any:
        """POST; what became of it."""
        code, answer = self.curl(path, "POST", item)
        assert code in {200, 201}, answer
        return answer

    def change(self, path: str, patch: object, kind: str = "merge-patch") -> Any:
        """PATCH; what became of it."""
        code, answer = self.curl(path, "PATCH", patch, kind=f"application/{kind}+json")
        assert code == 200, answer
        return answer

    def delete(self, path: str) -> None:
        """DELETE, of one or of a collection; nothing is there afterwards."""
        code, answer = self.curl(path, "DELETE")
        assert code in {200, 202, 404}, answer

    def compact(self) -> None:
        """Forgets all history, as etcd does every five minutes."""
        where = ["nsenter", f"--net=/run/netns/{self.namespace}"]
        command = [*where, "curl", "-sS", "-X", "POST", "-d", "@-"]
        url = f"{control_plane.ETCD}/v3/kv"

        def post(path: str, body: object) -> Any:
            text = json.dumps(body)
            done = subprocess.run(
                [*command, f"{url}/{path}"], input=text, capture_output=True, text=True, check=True
            )
            return json.loads(done.stdout)

        revision = post("range", {"key": "YQ=="})["header"]["revision"]
        post("compaction", {"revision": revision, "physical": True})

    def token(self, account: str, namespace: str = "kube-system", seconds: int = 3600) -> str:
        """A token of a service account."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        return str(self.create(path, body)["status"]["token"])

    def kubeconfig(
        self, name: str, user: dict[str, object], port: int = PORT, **cluster: Any
    ) -> Path:
        """A kubeconfig for the first server."""
        path = self.root / f"{name}.conf"
        about = {
            "server": f"https://{ADDRESS}:{port}",
            "certificate-authority": str(self.pki / "ca.crt"),
        }
        content = {
            "clusters": [{"name": "test", "cluster": {**about, **cluster}}],
            "users": [{"name": "agent", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "agent"}}],
            "current-context": "test",
        }
        path.write_text(json.dumps(content))
        return path


@contextmanager
def api_servers() -> Iterator[Servers]:
    """Runs etcd and one API server that is ready."""
    namespace = f"kubypass-api-{os.getpid()}"
    root = Path(tempfile.mkdtemp(prefix="kubypass-api-"))
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    servers = Servers(root, namespace)
    try:
        subprocess.run(["ip", "-n", namespace, "link", "set", "lo", "up"], check=True)
        here = ["addr", "add", f"{ADDRESS}/32", "dev", "lo"]  # there with or without a node
        subprocess.run(["ip", "-n", namespace, *here], check=True)
        pki.make_authority(servers.pki)
        own = pki.api_server([ip_address(ADDRESS)])
        for identity in (own, pki.KUBELET_CLIENT, pki.FRONT_PROXY, pki.ADMIN):
            pki.make_certificate(servers.pki, identity)
        servers.start_etcd()
        servers.start()
        servers.wait_ready()
        yield servers
    finally:
        for name in list(servers.processes):
            servers.kill(name)
        subprocess.run(["ip", "netns", "delete", namespace], check=True)
        shutil.rmtree(root)


@contextmanager
def linked(servers: Servers, node_namespace: str) -> Iterator[None]:
    """A node that reaches the servers, over a link of its own."""
    api = servers.namespace
    lines = [
        f"link add n0 netns {api} type veth peer name api0 netns {node_namespace}",
        f"-n {api} link set n0 up",
        f"-n {api} route add {NODE_ADDRESS}/32 dev n0",
        f"-n {node_namespace} link set api0 up",
        f"-n {node_namespace} addr add {NODE_ADDRESS}/32 dev api0",
    ]
    for line in lines:
        subprocess.run(["ip", *line.split()], check=True)
    link_to(node_namespace)
    try:
        yield
    finally:
        subprocess.run(["ip", "-n", api, "link", "delete", "n0"], check=False, capture_output=True)


def link_to(node_namespace: str) -> None:
    """The node's route to the servers, which goes with its link."""
    route = ["route", "replace", f"{ADDRESS}/32", "dev", "api0"]
    subprocess.run(["ip", "-n", node_namespace, *route], check=True)
