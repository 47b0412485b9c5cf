# SPDX-License-Identifier: Apache-2.0
"""Real maps are counted, without what has expired; a real agent tells of a map that is nearly full."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from kubypass.datapath import layout
from kubypass.datapath.map_fill import MapFill
from kubypass.datapath.pins import Pins
from kubypass.kernel.bpf import Map
from kubypass.model.address import mapped_address, parse_address
from kubypass_lab.bench.cluster import named_service, write_file
from kubypass_lab.bench.node import BareNode, agent, bare_node
from kubypass_lab.box.patience import DEADLINE_S
from tests.agent.commands import command
from tests.agent.undo import problems

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes BPF maps")
T = TypeVar("T")
HASH, LRU_HASH = 1, 9
SIZES = {
    "flows": (LRU_HASH, layout.TUPLE_SIZE, layout.FLOW_SIZE, 131072),
    "transient_flows": (LRU_HASH, layout.TUPLE_SIZE, layout.FLOW_SIZE, 4096),
    "affinities": (LRU_HASH, layout.AFFINITY_CLIENT_SIZE, layout.AFFINITY_SIZE, 4096),
    "fragments": (LRU_HASH, layout.DATAGRAM_SIZE, layout.DATAGRAM_PORTS_SIZE, 4096),
    "local_addresses": (HASH, 16, layout.LOCAL_ADDRESS_SIZE, 1024),
    "foreign_sources": (HASH, 4, 4, 1024),
    "socket_lb_off": (HASH, 8, 4, 1024),
    "socket_peers": (LRU_HASH, layout.SOCKET_PEER_SIZE, layout.TRANSPORT_ADDRESS_SIZE, 4096),
}
MINUTE_NS = 60 * 10**9


def put(opened: Map, count: int, value: bytes, first: int = 0) -> None:
    size = opened.info.key_size
    keys = b"".join(n.to_bytes(size, "little") for n in range(first, first + count))
    opened.update_batch(keys, value * count, count)


def with_time(size: int, at: int, time_ns: int) -> bytes:
    value = bytearray(size)
    value[at : at + 8] = time_ns.to_bytes(8, "little")
    return bytes(value)


def test_what_has_expired_is_not_counted_and_a_pass_takes_few_steps() -> None:
    maps = {name: Map.create(*size, name) for name, size in SIZES.items()}
    now = time.monotonic_ns()
    at, size = layout.FLOW_EXPIRES_NS_AT, layout.FLOW_SIZE
    put(maps["flows"], 40000, with_time(size, at, now + 60 * MINUTE_NS))
    put(maps["flows"], 20000, with_time(size, at, now - MINUTE_NS), 40000)
    put(maps["fragments"], 30, with_time(16, 0, now + 60 * MINUTE_NS))
    put(maps["fragments"], 20, with_time(16, 0, now - MINUTE_NS), 30)
    put(maps["socket_lb_off"], 5, bytes(4))
    for service, count in ((1, 10), (2, 20)):
        keys = b"".join(
            layout.AffinityClient(n.to_bytes(16, "little"), service).pack() for n in range(count)
        )
        value = layout.Affinity(now - 100 * 10**9, 1).pack()
        maps["affinities"].update_batch(keys, value * count, count)
    fill = MapFill(maps)
    for _ in range(9):
        fill.step(lambda: {1: 50, 2: 10800})
    assert fill.entries == {
        "flows": 40000,
        "transient_flows": 0,
        "affinities": 20,
        "fragments": 30,
        "local_addresses": 0,
        "foreign_sources": 0,
        "socket_lb_off": 5,
        "socket_peers": 0,
    }


@pytest.fixture
def node() -> Iterator[BareNode]:
    with bare_node() as made:
        yield made


def test_flows_that_fill_their_map_are_a_problem_within_seconds_and_it_ends(node: BareNode) -> None:
    write_file(node.root / "settings.yaml", {"bpf-ct-global-tcp-max": 4096})
    write_file(node.manifests / "web.json", named_service("web", "10.96.0.1"))
    with agent(node, "--config", str(node.root / "settings.yaml")):
        flows = Pins(node.root / "bpf").open_map("flows")
        client = mapped_address(parse_address("10.1.0.9"))
        keys = [layout.Tuple(client, client, 1, n, 6).pack() for n in range(7600)]
        end = time.monotonic_ns() + 60 * MINUTE_NS
        value = with_time(layout.FLOW_SIZE, layout.FLOW_EXPIRES_NS_AT, end)
        flows.update_batch(b"".join(keys), value * len(keys), len(keys))
        (line,) = until(lambda: problems(node))
        assert line.startswith("Map flows: is 9")
        assert "set bpf-ct-global-tcp-max to 8192 (it is 4096), which takes " in line
        said = command(node, "status", "--run", str(node.run)).stdout
        assert "in use (9" in said
        metrics = node.ask("/metrics")[1].decode()
        assert 'kubypass_map_max_entries{map="flows"} 8192' in metrics
        assert 'kubypass_map_entries{map="flows"} 7' in metrics
        flows.delete_batch(b"".join(keys), len(keys))  # as an eviction would
        (line,) = until(lambda: [one for one in problems(node) if "evicted" in one])
        assert "0 % full" in line
        evicted = int(line.partition(" that lived")[0].rpartition(" ")[2])
        assert 0.8 < evicted / len(keys) < 1.25
        metrics = node.ask("/metrics")[1].decode()
        assert f'kubypass_map_evicted_total{{map="flows"}} {evicted}' in metrics
        until(lambda: not problems(node))


def until(condition: Callable[[], T]) -> T:
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return value
