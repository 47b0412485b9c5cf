# SPDX-License-Identifier: Apache-2.0
"""SCTP, which no socket hook sees: from pods, nodes and outside, also to addresses that are the dialling node's own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from kubypass.datapath import layout
from kubypass.datapath.counters import counter_index
from kubypass.model.verdict import Hook, Verdict
from kubypass_lab.box.patience import ANSWER_S, SHORT_S
from kubypass_lab.box.topology import CLIENT_ADDRESSES
from tests.box.scene import Scene
from tests.box.scene_objects import Endpoint, Port, Service
from tests.box.scene_rows import HERE

pytestmark = pytest.mark.xdist_group("scenes")
SCRIPT = [sys.executable, str(HERE / "sctp.py")]
PORT = Port(80, 8080, "SCTP")
SERVERS = ("a1", "a2", "node1", "node2")
FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
LOOPBACK = {4: "127.0.0.1", 6: "::1"}


@pytest.fixture
def servers(scene: Scene) -> Iterator[Scene]:
    """A pod of each node, and each node itself."""
    with ExitStack() as stack:
        for name in SERVERS:
            addresses = [scene.address(name, version) for version in (4, 6)]
            command = [*scene.command(name), *SCRIPT, "serve", name, "8080", *addresses]
            process = stack.enter_context(
                subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(process.kill)
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        yield scene


def ask(
    scene: Scene, place: str, *rows: tuple[str, tuple[str, int]], patience_s: float = ANSWER_S
) -> list[list[object] | None]:
    """The answer to each source and target: who has answered, and the address and port that the answer came from."""
    words = [f"{source},{address},{port}" for source, (address, port) in rows]
    command = [*scene.command(place), *SCRIPT, "ask", f"{patience_s:g}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def targets(scene: Scene, service: Service, version: int) -> dict[str, tuple[str, int]]:
    """Where the service is to be had."""
    node_port = service.ports[0].node_port
    return {
        "cluster": (service.address(version), 80),
        "node1": (scene.address("node1", version), node_port),
        "node2": (scene.address("node2", version), node_port),
        "loopback": (LOOPBACK[version], node_port),
    }


@FAMILIES
@pytest.mark.parametrize("server", SERVERS)
def test_every_way(servers: Scene, version: int, server: str) -> None:
    """The answer comes from where it was asked for."""
    service = servers.put(servers.service(PORT, node_ports=True), [Endpoint(server)])
    ways = targets(servers, service, version)
    client = CLIENT_ADDRESSES[version == 6].partition("/")[0]
    pod, node = (servers.address(place, version) for place in ("pod1", "node1"))
    rows = {
        "pod1": [(pod, ways[to]) for to in ("cluster", "node1", "node2")],
        "client": [(client, ways[to]) for to in ("node1", "node2")],
        "node1": [
            *((node, ways[to]) for to in ("cluster", "node1", "node2")),
            (LOOPBACK[version], ways["loopback"]),
        ],
    }
    for place, asked in rows.items():
        assert ask(servers, place, *asked) == [[server, *target] for _, target in asked], place


@FAMILIES
def test_a_service_without_endpoints_is_refused(servers: Scene, version: int) -> None:
    """The node gets the refusal, for one of its own addresses as well."""
    service = servers.put(servers.service(PORT, node_ports=True), [])
    ways = targets(servers, service, version)
    index = counter_index(Hook.TO_SELF, Verdict.REJECT_NO_BACKEND)

    def refused() -> int:
        raw = servers.map("node1", "metrics").lookup(index.to_bytes(4, sys.byteorder)) or b""
        size = layout.COUNTER_SIZE
        each = [raw[at : at + size] for at in range(0, len(raw), size)]
        return sum(layout.Counter.unpack(one).packets for one in each)

    before = refused()
    rows = [
        (servers.address("node1", version), ways["node1"]),
        (LOOPBACK[version], ways["loopback"]),
    ]
    assert ask(servers, "node1", *rows, patience_s=SHORT_S) == [None, None]
    assert refused() == before + 2
