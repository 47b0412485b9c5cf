# SPDX-License-Identifier: Apache-2.0
"""Clients that hold a connected socket while a test changes things around them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kubypass_lab.box import agents
from kubypass_lab.box.enter import command_in, find_target
from tests.box.conftest import HERE, REPOSITORY, Cluster

PYTHON = (REPOSITORY / ".venv" / "bin" / "python").as_posix()
TOLD = {"EDESTADDRREQ", "ECONNABORTED"}
"""What a closed socket says: UDP's send() the one always, other calls the other once."""


@dataclass(frozen=True, slots=True)
class Client:
    """connected.py, running."""

    process: subprocess.Popen[str]

    def hear(self) -> str:
        """The next line of its output."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def tell(self, word: str) -> None:
        """One line to it."""
        assert self.process.stdin
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def ask(self, word: str) -> str:
        """The answer to one line."""
        self.tell(word)
        return self.hear()


@contextmanager
def connected(
    cluster: Cluster, host: str, protocol: str, address: str, port: int
) -> Iterator[Client]:
    """A client on a host, for the length of a block."""
    script = [PYTHON, (HERE / "connected.py").as_posix(), protocol, address.strip("[]"), str(port)]
    command = command_in(find_target(cluster.box, cluster.full_name(host)), script)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Client(process)
        finally:
            process.kill()


def closed(cluster: Cluster, protocol: str) -> list[int]:
    """Sockets that each node's agent has closed, node1 first."""
    found = []
    for node in cluster.box.nodes:
        block = agents.ask(cluster.box.paths, node.name, "/status")["socket_termination"]
        assert isinstance(block, dict)
        found.append(int(block["closed"].get(protocol, 0)))
    return found
