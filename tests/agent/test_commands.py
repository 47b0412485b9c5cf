# SPDX-License-Identifier: Apache-2.0
"""`kubypass service list` and `status`, with a real agent, with one that hangs, and without any."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kubypass_lab.bench.cluster import named_service, named_slice, write_file
from kubypass_lab.bench.node import BareNode, agent, bare_node
from kubypass_lab.box.patience import DEADLINE_S
from tests.agent.commands import command
from tests.program import KUBYPASS

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")
_AT_ONCE_S = 8.0
"""Less than a request may take; generous, since Python starts first."""


@pytest.fixture
def node() -> Iterator[BareNode]:
    with bare_node() as made:
        web: Any
        api: Any
        web, api = named_service("web", "10.96.0.1"), named_service("api", "fd00::1")
        web["spec"] |= {"type": "NodePort", "sessionAffinity": "ClientIP"}
        web["spec"]["ports"] = [{"port": 80, "nodePort": 30080}]
        api["metadata"]["namespace"] = "shop"
        write_file(made.manifests / "web.json", web)
        write_file(made.manifests / "api.json", api)
        write_file(made.manifests / "slice.json", named_slice("web", ["10.1.0.1", "10.1.0.2"], 80))
        yield made


def ask(node: BareNode, *words: str) -> subprocess.CompletedProcess[str]:
    where = ("--run", str(node.run), "--bpffs", str(node.root / "bpf"))
    return command(node, *words, *where)


def rows(node: BareNode, *words: str) -> list[tuple[str, str]]:
    """Frontend and name of the rows that `service list` with these words shows."""
    done = ask(node, "service", "list", "-o", "json", *words)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["services"]
    return [(row["frontend"], f"{row['namespace']}/{row['name']}") for row in found]


def test_services_by_name_namespace_port_and_type(node: BareNode) -> None:
    with agent(node):
        web, api = ("10.96.0.1:80/TCP", "default/web"), ("[fd00::1]:80/TCP", "shop/api")
        everywhere = ("0.0.0.0:30080/TCP", "default/web")
        assert {web, api, everywhere} <= set(rows(node))
        assert rows(node, "-n", "shop") == rows(node, "api") == rows(node, "shop/api") == [api]
        assert rows(node, "default/api") == rows(node, "-n", "shop", "web") == []
        assert rows(node, "--type", "clusterip", "--port", "80", "web") == [web]
        assert {name for _, name in rows(node, "--port", "30080")} == {"default/web"}
        assert rows(node, "--port", "9") == []
        assert ask(node, "service", "list", "--type", "wrong").returncode == 2


def test_scripts_get_the_columns_that_they_know_and_a_terminal_the_name_too(node: BareNode) -> None:
    words = ("service", "list", "web", "--port", "80")
    with agent(node):
        head, *lines = ask(node, *words).stdout.splitlines()
        assert head == "ID   Frontend           Service Type   Backend"
        number = lines[0].split()[0]
        assert [" ".join(line.split()) for line in lines] == [
            f"{number} 10.96.0.1:80/TCP ClusterIP 1 => 10.1.0.1:80/TCP (active)",
            "2 => 10.1.0.2:80/TCP (active)",
        ]
        head, *lines = on_terminal(node, *words).splitlines()
        assert head.split() == ["ID", "Frontend", "Service", "Type", "Backend", "Service"]
        assert lines[0].endswith("1 => 10.1.0.1:80/TCP (active)   default/web")
        assert lines[1].endswith("2 => 10.1.0.2:80/TCP (active)")
        head, first, *_ = ask(node, *words, "-o", "wide").stdout.splitlines()
        assert head.endswith(
            "Service       Port Name   Policy    Affinity   Source Ranges   Algorithm   Forwarding"
        )
        assert first.split()[-8:] == [
            "default/web",
            "-",
            "Cluster",
            "10800",
            "s",
            "none",
            "random",
            "SNAT",
        ]


def on_terminal(node: BareNode, *words: str) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    where = ["nsenter", f"--net=/run/netns/{node.namespace}"]
    done = subprocess.run(
        [*where, KUBYPASS, *words, "--run", str(node.run)],
        stdout=theirs,
        check=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0
    os.close(theirs)
    text = os.read(ours, 65536).decode()
    os.close(ours)
    return text.replace("\r\n", "\n")


def test_an_agent_that_hangs_is_told_at_once_with_what_the_kernel_holds(node: BareNode) -> None:
    with agent(node):
        pid = int(node.status()["agent"]["pid"])
        os.kill(pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            done = ask(node, "status")
            took = time.monotonic() - started
            assert done.returncode == 1
            assert "does not answer within 1 s: it hangs" in done.stdout
            assert "2 service ports (3 frontends, 2 backends)" in done.stdout
            assert re.search(
                r"^Flows: +0 of \d+ \(flows\), 0 of \d+ \(transient", done.stdout, re.MULTILINE
            )
            assert took < _AT_ONCE_S
            found = json.loads(ask(node, "status", "-o", "json").stdout)
            assert found["agent"]["answers"] is False
            assert found["problems"]
            listed = ask(node, "service", "list")
            assert "10.96.0.1:80/TCP" in listed.stdout
            assert "this is what the kernel holds" in listed.stderr
            assert ask(node, "service", "list", "web").returncode == 1
        finally:
            os.kill(pid, signal.SIGCONT)


def test_without_an_agent_status_shows_what_stays(node: BareNode) -> None:
    assert "no agent answers" in ask(node, "status").stderr
    with agent(node):
        pass
    done = ask(node, "status")
    assert done.returncode == 1
    assert "no agent answers" in done.stdout
    assert "2 backends" in done.stdout
