# SPDX-License-Identifier: Apache-2.0
"""`kubypass trace --manifests`: it explains objects in files, on a node that need not exist."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.program import KUBYPASS
from tests.trace.cases import errors
from tests.trace.objects import CLIENT, NODES


def run(manifests: Path, source: str, target: str, *more: str) -> subprocess.CompletedProcess[str]:
    argv = [
        "--manifests",
        str(manifests),
        "--node",
        "node1",
        "--from",
        source,
        "--to",
        target,
        *more,
    ]
    return subprocess.run([KUBYPASS, "trace", *argv], capture_output=True, text=True, check=False)


def explanation(manifests: Path, source: str, target: str) -> dict[str, Any]:
    answer = run(manifests, source, target, "-o", "json")
    assert answer.stdout, answer.stderr
    return json.loads(answer.stdout)


def test_a_host_port_is_its_pods(manifests: Path) -> None:
    told = explanation(manifests, CLIENT, "node1:8081")
    assert told["steps"][0]["text"].endswith("is the HostPort of pod default/web-0:80")
    assert told["reason"].startswith("HostPort of pod default/web-0:80; ")
    assert [note["address"] for note in told["service"]["endpoints"]] == ["10.244.1.5:80"]


@pytest.mark.parametrize(
    ("source", "target", "program", "backends"),
    [
        ("pod/client", "service/web:80", "connect4", 2),
        ("pod/default/client", "node1:30080", "connect4", 2),
        ("10.244.1.9", "service/web:80", "connect4", 2),
        ("pod/in-host", "node1:30080", "connect4", 2),
        ("10.244.2.9", "node1:30080", "from_uplink", 1),
        ("pod/client", "pod/away:80", "from_pod", 0),
    ],
)
def test_pods_of_the_files(
    manifests: Path, source: str, target: str, program: str, backends: int
) -> None:
    told = explanation(manifests, source, target)
    assert len(told["backends"]) == backends
    assert program in [step["where"] for step in told["steps"]]


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("pod/away", "--from pod/away: it is on node node2; --node node2"),
        ("pod/nobody", "no pod default/nobody; known are default/away, default/client"),
    ],
)
def test_pods_that_cannot_be_sources(manifests: Path, source: str, error: str) -> None:
    answer = run(manifests, source, "service/web:80")
    assert (answer.returncode, len(errors(answer.stderr))) == (2, 1)
    assert error in answer.stderr


def test_another_nodes_packets_arrive_from_outside(manifests: Path) -> None:
    told = explanation(manifests, "node/node2", "node1:30080")
    assert (told["program"], told["backends"]) == ("from_uplink", ["10.244.1.5:8080"])
    assert any(f"{NODES['node2']}:45678 -> 10.244.1.5:8080" in s["text"] for s in told["steps"])


def test_devices_of_the_trace_itself_are_not_told(manifests: Path) -> None:
    told = [step["text"] for step in explanation(manifests, CLIENT, "node1:30080")["steps"]]
    assert told[-2].endswith("10.244.1.5:8080; into the pod 10.244.1.5")
    assert told[-1].endswith("; to the network")


def test_a_file_that_cannot_be_read_is_told(manifests: Path) -> None:
    (manifests / "bad.yaml").write_text("kind: Node\nmetadata: {name: node3\nstatus: {}\n")
    wrong = "File bad.yaml: not YAML: did not find expected ',' or '}', line 3 column 7"
    for more in (["--node", "node3"], ["--from", "node/node3"]):
        answer = run(manifests, CLIENT, "node1:80", *more)
        assert (answer.returncode, len(errors(answer.stderr))) == (2, 1)
        assert "node3" in answer.stderr
        assert wrong in answer.stderr


@pytest.mark.parametrize(
    ("source", "target", "seen", "leaves"),
    [
        (CLIENT, "node1:30080", "{client}:45678 -> 10.244.1.5:8080", "10.244.1.5:8080; through"),
        ("pod/client", "192.0.2.9:443", "10.244.1.9:45678 -> 192.0.2.9:443", "{node}:"),
    ],
)
def test_legacy_host_routing_tells_what_netfilter_sees(
    manifests: Path, source: str, target: str, seen: str, leaves: str
) -> None:
    settings = manifests.parent / "settings.yaml"
    settings.write_text('enable-host-legacy-routing: "true"\ncluster-cidr: "10.244.0.0/16"\n')
    answer = run(manifests, source, target, "--config", str(settings), "-o", "json")
    told = json.loads(answer.stdout)
    names = {"client": CLIENT, "node": NODES["node1"]}
    texts = [step["text"] for step in told["steps"]]
    wanted = f"through the node's stack, whose netfilter sees {seen.format(**names)}"
    assert any(wanted in text and leaves.format(**names) in text for text in texts), texts
    back = seen.format(**names).split(" -> ")
    assert any(f"sees {back[1]} -> {back[0]}" in text for text in texts), texts
