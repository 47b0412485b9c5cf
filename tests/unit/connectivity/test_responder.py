# SPDX-License-Identifier: Apache-2.0
"""What a test pod answers, over real sockets on the loopback interface."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest

from kubypass_lab.box.patience import ANSWER_S, DEADLINE_S


def free_port() -> int:
    with closing(socket.create_server(("::", 0), family=socket.AF_INET6)) as taken:
        return taken.getsockname()[1]


def answers(port: int) -> bool:
    with closing(socket.socket()) as asker:
        return asker.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    chosen = free_port()
    names = {"KUBYPASS_TOKEN": "secret", "POD_NAME": "pod-a", "NODE_NAME": "n1"}
    command = [sys.executable, "-m", "kubypass.connectivity.responder", f"--port={chosen}"]
    with subprocess.Popen(command, env={**os.environ, **names}) as process:
        deadline = time.monotonic() + DEADLINE_S
        while not answers(chosen):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield chosen
        process.terminate()


def get(port: int, path: str) -> tuple[int, Any]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    return answer.status, json.loads(body) if body.startswith(b"{") else body.decode()


def dial(port: int, protocol: str, host: str, target: int, tries: int = 3) -> dict[str, Any]:
    return get(port, f"/secret/dial?protocol={protocol}&host={host}&port={target}&tries={tries}")[1]


def test_it_says_who_it_is(port: int) -> None:
    assert get(port, "/who") == (200, {"pod": "pod-a", "node": "n1", "client": "127.0.0.1"})


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_it_dials(port: int, protocol: str, host: str) -> None:
    said = dial(port, protocol, host, port)
    assert [(each["pod"], each["client"]) for each in said["answers"]] == [("pod-a", host)] * 3
    assert all(0 < each["ms"] < 1000 for each in said["answers"])
    assert said["failures"] == []


def test_it_gives_up_after_two_failures(port: int) -> None:
    assert dial(port, "tcp", "127.0.0.1", free_port(), 6) == {
        "answers": [],
        "failures": ["connection refused"] * 2,
    }
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as silent:
        silent.bind(("127.0.0.1", 0))
        said = dial(port, "udp", "127.0.0.1", silent.getsockname()[1], 6)
    assert said["failures"] == ["no answer"] * 2


def test_it_connects_to_what_speaks_no_http(port: int) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        said = dial(port, "connect", "127.0.0.1", other.getsockname()[1], 1)
    assert said["answers"][0]["peer"] == "127.0.0.1"


def test_it_resolves(port: int) -> None:
    assert get(port, "/secret/resolve?name=127.0.0.1")[1] == {
        "addresses": ["127.0.0.1"],
        "failures": [],
    }
    said = get(port, "/secret/resolve?name=a..b")[1]
    assert said["addresses"] == []
    assert said["failures"]


def test_it_passes_questions_on_to_its_neighbour(port: int) -> None:
    inner = quote(f"/secret/dial?protocol=tcp&host=::1&port={port}&tries=1", safe="")
    code, said = get(port, f"/secret/fetch?host=127.0.0.1&port={port}&path={inner}")
    assert (code, len(said["answers"])) == (200, 1)
    code, text = get(port, f"/secret/fetch?host=127.0.0.1&port={free_port()}&path=/")
    assert (code, text) == (502, "connection refused")


@pytest.mark.parametrize("path", ["/", "/dial", "/wrong/dial?host=a", "//dial", "/secret2/fetch"])
def test_without_the_token_it_does_nothing(port: int, path: str) -> None:
    assert get(port, path)[0] == 403


@pytest.mark.parametrize("path", ["/secret/dial", "/secret/dial?protocol=x&host=a&port=1&tries=1"])
def test_a_wrong_question(port: int, path: str) -> None:
    assert get(port, path)[0] == 400
