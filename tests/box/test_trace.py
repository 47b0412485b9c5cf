# SPDX-License-Identifier: Apache-2.0
"""`kubypass trace` on a live node: it tells what happens there, and leaves no mark."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from signal import Signals
from typing import Any

import pytest

from kubypass.datapath import layout
from kubypass.datapath.counters import read_counts
from kubypass.kernel.bpf import Map
from kubypass.kernel.cgroup import mount_point
from kubypass.model.verdict import Hook
from kubypass_lab.box.enter import command_in, find_target, run_in
from kubypass_lab.box.patience import DEADLINE_S
from tests.box.conftest import Cluster
from tests.trace.cases import errors

VERSIONS = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])


def trace(cluster: Cluster, source: str, target: str) -> tuple[int, dict[str, Any]]:
    argv = ("kubypass", "trace", "--from", source, "--to", target, "-o", "json")
    answer = run_in(find_target(cluster.box, "node1"), argv)
    assert answer.stdout, answer.stderr
    return answer.returncode, json.loads(answer.stdout)


def programs(story: dict[str, Any]) -> list[str]:
    return [step["where"] for step in story["steps"]]


def my_pod(cluster: Cluster) -> str:
    return cluster.place("pod1")


@VERSIONS
def test_a_pod_that_dials_a_cluster_ip(cluster: Cluster, version: int) -> None:
    target = f"{cluster.host(version, 'my-nginx')}:80/tcp"
    code, story = trace(cluster, my_pod(cluster).replace("pod/", "pod/default/"), target)
    assert (code, story["verdict"], story["program"]) == (0, "dnat", f"connect{version}")
    backends = {f"{cluster.host(version, name)}:80" for name in ("nginx1", "nginx2")}
    assert (set(story["backends"]), story["masquerade"]) == (backends, False)
    assert story["backend"] in backends
    assert story["service"]["service"] == "default/my-nginx"
    assert all(note["used"] for note in story["service"]["endpoints"])
    assert {"from_pod", "socket", "rule"} <= set(programs(story))


@VERSIONS
def test_a_client_outside_that_dials_a_node_port_and_its_answer(
    cluster: Cluster, version: int
) -> None:
    client = {4: "203.0.113.9", 6: "2001:db8:cafe::9"}[version]
    port = cluster.node_port("my-nginx")
    code, story = trace(cluster, client, f"{cluster.host(version, 'node1')}:{port}")
    assert (code, story["program"], story["masquerade"]) == (0, "from_uplink", True)
    back = next(step for step in story["steps"] if step["where"].startswith("back: "))
    assert f"becomes {cluster.host(version, 'node1')}:{port} -> " in back["text"]
    assert "to the network by eth0" in back["text"]


def test_a_service_without_endpoints_says_what_would_help(cluster: Cluster) -> None:
    port = cluster.node_port("empty")
    code, story = trace(cluster, "203.0.113.9", f"node1:{port}")
    assert (code, story["verdict"], story["backends"]) == (1, "reject", [])
    assert "ready" in story["change"]
    assert "default/empty" in story["reason"]


def test_names(cluster: Cluster) -> None:
    port = cluster.node_port("my-nginx")
    assert trace(cluster, "node", f"127.0.0.1:{port}")[1]["program"] == "connect4"
    assert trace(cluster, "node/node1", "service/my-nginx:80")[1]["verdict"] == "dnat"
    assert trace(cluster, my_pod(cluster), f"node2:{port}")[1]["verdict"] == "accept"


@pytest.mark.parametrize(
    ("source", "target", "error"),
    [
        ("pod/nobody", "10.0.0.1:80", "--from: no pod default/nobody on node"),
        ("node/node7", "10.0.0.1:80", "no node node7"),
        ("node/node2", "10.0.0.1:80", "this is node"),
        ("203.0.113.9", "10.0.0.1", "expected HOST:PORT"),
        ("203.0.113.9", "nowhere:80", "--to: no node nowhere"),
        ("203.0.113.9", "10.0.0.1:80/gre", "expected tcp, udp or sctp"),
        ("203.0.113.9", "[::1]:80", "no addresses of one family"),
    ],
)
def test_what_cannot_be_understood(cluster: Cluster, source: str, target: str, error: str) -> None:
    argv = ("kubypass", "trace", "--from", source, "--to", target)
    answer = run_in(find_target(cluster.box, "node1"), argv)
    assert answer.returncode == 2
    assert error in answer.stderr
    assert len(errors(answer.stderr)) == 1


def marks(cluster: Cluster) -> dict[str, object]:
    """What a trace on node1 could leave behind."""
    place = find_target(cluster.box, "node1")
    pins = Path(place.env["KUBYPASS_BPFFS"]) / "kubypass" / layout.LAYOUT_HASH
    maps = {name: Map.open_pinned(str(pins / name)) for name in layout.MAP_NAMES}
    found: dict[str, object] = {
        name: dict(opened.items())
        for name, opened in maps.items()
        if name not in ("metrics", "icmp_budget", "slots", "backends", "flows")
    }
    found["socket calls"] = [c for c in read_counts(maps["metrics"]) if c.hook == Hook.SOCKET]
    left = mount_point().glob("kubypass-trace-*")
    found["cgroups"] = [
        each for each in left if not Path("/proc", each.name.rpartition("-")[2]).exists()
    ]
    found["links"] = run_in(place, ["ip", "-br", "link"]).stdout
    return found


def test_it_leaves_no_mark(cluster: Cluster) -> None:
    before = marks(cluster)
    for source in (my_pod(cluster), "203.0.113.9", "node"):
        trace(cluster, source, "service/my-nginx:80")
    assert marks(cluster) == before


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_leaves_no_mark(cluster: Cluster, number: Signals, code: int) -> None:
    before = marks(cluster)
    place = find_target(cluster.box, "node1")
    argv = ["env", "--default-signal=INT,TERM,HUP", "kubypass", "trace", "--batch", "-"]
    ends = {"src_ip": "10.0.0.1", "src_kind": "pod", "dst_ip": "10.0.0.2", "dst_port": 1}
    case = {"flow": {**ends, "proto": "TCP"}}
    with subprocess.Popen(
        command_in(place, argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, env={**os.environ, **place.env},
    ) as process:  # fmt: skip
        print(json.dumps(case), file=process.stdin, flush=True)
        assert process.stdout
        assert "accept" in process.stdout.readline()
        process.send_signal(number)
        assert process.wait(timeout=DEADLINE_S) == code
    assert marks(cluster) == before


def test_objects_without_an_agent(cluster: Cluster) -> None:
    manifests = cluster.box.paths.manifests
    node = cluster.box.topology.node("node1").name
    source = cluster.host(4, "nginx1")
    answer = subprocess.run(
        [Path(sys.executable).parent / "kubypass", "trace", "--manifests", manifests, "--node", node,
         "--from", f"pod/{source}", "--to", "service/my-nginx:80", "-o", "json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    story = json.loads(answer.stdout)
    assert (story["verdict"], story["node"]) == ("dnat", node)
    assert len(story["backends"]) == 2
