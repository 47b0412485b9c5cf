# SPDX-License-Identifier: Apache-2.0
"""A node without a kubelet on the API server's network, with one proxy, and a client that connects to a service."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kubypass.errors import KubypassError
from kubypass.kernel import mounts
from kubypass_lab.bench.kubernetes_api import Server, bpffs
from kubypass_lab.bench.kubernetes_objects import BACKEND_PORT, LIVE_ADDRESS
from kubypass_lab.box import wiring
from kubypass_lab.box.paths import CLIENT, FABRIC, NETNS
from kubypass_lab.box.process import kill_cgroup, last_line
from kubypass_lab.checkout import BUILD

_DIAL = BUILD / "bench/dial"
_PAUSE_US = 500
_END_S = 20.0
_ENTER = 'echo 0 > "$1/cgroup.procs" && shift && exec "$@"'


@dataclass(frozen=True, slots=True)
class ProxyNode:
    """A node's paths and names. The proxy and the client have separate cgroups below the node's."""

    server: Server
    name: str

    @property
    def namespace(self) -> Path:
        """The node's network namespace."""
        return NETNS / self.server.paths.namespace(self.name)

    @property
    def root(self) -> Path:
        """The directory of the node's files."""
        return self.server.paths.node_disk(self.name)

    @property
    def cgroup(self) -> Path:
        """The cgroup of the whole node."""
        return self.server.paths.node_cgroup(self.name)

    @property
    def proxy_cgroup(self) -> Path:
        """The cgroup of the proxy and its children."""
        return self.cgroup / "proxy"

    @property
    def client_cgroup(self) -> Path:
        """The cgroup of the client."""
        return self.cgroup / "client"

    @property
    def bpffs(self) -> Path:
        """The node's bpf filesystem."""
        return bpffs(self.server.paths)

    def run(self, command: Sequence[str], timeout_s: float = 60.0) -> str:
        """The output of a command in the node's network namespace; empty if the command fails."""
        done = subprocess.run(
            ["nsenter", f"--net={self.namespace}", "--", *command],
            capture_output=True, text=True, check=False, timeout=timeout_s,
        )  # fmt: skip
        return "" if done.returncode else done.stdout

    @contextmanager
    def process(
        self, command: Sequence[str], cgroup: Path, output: int | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A process on the node for the length of a block. It always ends with this process."""
        with started(command, cgroup, self.namespace, self.root / "log", output) as made:
            yield made


@contextmanager
def started(
    command: Sequence[str], cgroup: Path, namespace: Path, log: Path, output: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a cgroup and a network namespace, for the length of a block."""
    with log.open("ab") as said:
        words = ["nsenter", f"--net={namespace}", "setpriv", "--pdeathsig", "KILL", *command]
        process = subprocess.Popen(
            ["sh", "-c", _ENTER, "sh", str(cgroup), *words],
            stdin=subprocess.DEVNULL,
            stdout=said if output is None else output,
            stderr=said,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def proxy_node(server: Server, number: int) -> Iterator[ProxyNode]:
    """A numbered node of the topology, for the length of a block."""
    planned = server.topology.nodes[number]
    node = ProxyNode(server, planned.name)
    try:
        node.root.mkdir(parents=True)
        for cgroup in (node.proxy_cgroup, node.client_cgroup):
            cgroup.mkdir(parents=True)
        node.bpffs.mkdir(exist_ok=True)
        mounts.mount_bpffs(node.bpffs)
        wiring.plug_node(server.paths, server.topology, planned)
        yield node
    finally:
        kill_cgroup(node.cgroup, _END_S)
        # The end of the namespace would delete it too, but later, during the next proxy's start.
        node.run(["nft", "flush", "ruleset"])
        if node.namespace.exists():
            with suppress(KubypassError):  # the node is not connected yet
                wiring.delete_link(server.paths.namespace(FABRIC), planned.alias)
            wiring.delete_namespace(node.namespace.name)
        if mounts.is_bpffs(node.bpffs):
            mounts.unmount(node.bpffs)
        shutil.rmtree(node.root, ignore_errors=True)


@contextmanager
def backends(server: Server) -> Iterator[None]:
    """Both backends of the live service, which run outside the nodes, for the length of a block."""
    if not _DIAL.exists():
        raise KubypassError(f"{_DIAL} is missing", "run make build")
    cgroup = server.paths.host_cgroup(CLIENT)
    cgroup.mkdir(parents=True)
    namespace = NETNS / server.paths.namespace(CLIENT)
    command = [str(_DIAL), "serve", str(BACKEND_PORT)]
    with started(command, cgroup, namespace, server.paths.root / "backends.log"):
        yield


@dataclass(slots=True)
class Dialer:
    """A client that connects to the live service again and again."""

    output: int
    log: Path
    failures: int = 0
    """Connections that failed until the last change of backends."""
    answers: str = ""
    """The backend that answers now, or "-" for none."""
    _rest: bytes = b""

    def wait_for(self, backend: str, deadline_s: float) -> float | None:
        """The time (CLOCK_MONOTONIC, s) when the first handshake with a backend ended; None after the time limit."""
        end = time.monotonic() + deadline_s
        while (left := end - time.monotonic()) > 0:
            if select.select([self.output], [], [], left)[0]:
                when = self._read(backend)
                if when is not None:
                    return when
        return None

    def _read(self, backend: str) -> float | None:
        data = os.read(self.output, 4096)
        if not data:
            raise KubypassError(f"the client ended: {last_line(self.log)}")
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = None
        for line in lines:
            when, self.answers, failures = line.decode().split()
            self.failures = int(failures)
            if self.answers == backend and found is None:
                found = int(when) / 1e9
        return found


@contextmanager
def dialer(node: ProxyNode) -> Iterator[Dialer]:
    """A client on a node, for the length of a block."""
    command = [str(_DIAL), "watch", f"{LIVE_ADDRESS}:80", str(_PAUSE_US)]
    log = node.root / "log"
    with node.process(command, node.client_cgroup, subprocess.PIPE) as process:
        output = process.stdout
        if output is None:  # impossible: it is a pipe
            raise KubypassError("the client has no output")
        try:
            yield Dialer(output.fileno(), log)
        finally:
            with suppress(OSError):
                output.close()
