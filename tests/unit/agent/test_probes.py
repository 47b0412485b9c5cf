# SPDX-License-Identifier: Apache-2.0
"""What the kubelet's probes are told."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from kubypass.agent.health import TIMEOUT_S, Health
from kubypass.agent.http_ports import HttpPorts
from kubypass.api.server import HttpServer
from kubypass.settings.check import check_settings
from kubypass_lab.box.patience import ANSWER_S


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def probes(health: Health) -> Iterator[Callable[[str], tuple[int, str]]]:
    """Asks for a path; gives code and body."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    off = {"kube-proxy-replacement-healthz-bind-address": "", "metrics-bind-address": ""}
    settings, _ = check_settings({**off, "agent-health-port": str(port)})
    server = HttpServer()
    ports = HttpPorts(server, settings, "node1", health)

    def ask(path: str) -> tuple[int, str]:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    ports.start(settings)
    try:
        yield ask
    finally:
        server.stop()


def test_ready_only_after_the_first_sync_and_while_changes_are_applied_in_time() -> None:
    clock = Clock()
    health = Health(wall=clock, monotonic=clock)
    with probes(health) as ask:
        first = health.update()
        first.__enter__()
        assert ask("/healthz") == (503, "waiting for the first complete sync\n")
        clock.now += 10 * TIMEOUT_S
        assert ask("/livez") == (200, "ok\n"), (
            "an API server that is away is no reason to start again"
        )
        first.__exit__(None, None, None)
        assert ask("/healthz") == (200, "ok\n")
        with health.update():
            clock.now += TIMEOUT_S
            for path in ("/healthz", "/livez"):
                assert ask(path) == (503, "a change has not been applied for 60 s\n")
        assert ask("/livez") == ask("/healthz") == (200, "ok\n")
        assert ask("/metrics")[0] == 404


def test_it_can_be_off_and_a_wrong_port_is_named() -> None:
    assert check_settings({"agent-health-port": "0"})[0].http_ports.agent_health == 0
    _, findings = check_settings({"agent-health-port": "70000"})
    assert [finding.level for finding in findings] == ["wrong"]
