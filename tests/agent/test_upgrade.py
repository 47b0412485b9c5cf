# SPDX-License-Identifier: Apache-2.0
"""An agent with other structs in its maps takes over from another: a real connection through a NodePort goes on."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kubypass.datapath import layout
from kubypass.datapath.pins import Pins
from kubypass.kernel.netns import inside
from kubypass.model.address import parse_address
from kubypass_lab.bench.node import BareNode, agent, bare_node
from kubypass_lab.box.patience import ANSWER_S, DEADLINE_S
from tests.agent.dialler import CLIENT, Dialler, echo_server, talk, three_diallers
from tests.agent.far import BACKEND, NODE, NODE_PORT, neighbours, write_node_port
from tests.agent.versions import identifiers, other_structs

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")


@pytest.fixture(scope="module")
def other_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The PYTHONPATH of a version with other structs."""
    return other_structs(tmp_path_factory.mktemp("other"))


def test_connections_go_on_through_an_upgrade(
    other_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bare_node() as node, neighbours(node, [CLIENT]) as far:
        write_node_port(node)
        with inside(far):
            listener = socket.create_server((BACKEND, 8080))
            client = socket.socket()
            client.bind((CLIENT, 0))
        client.settimeout(ANSWER_S)
        monkeypatch.setenv("PYTHONPATH", str(other_version))
        with agent(node):
            before = identifiers(node)
            old = node.status()["layout"]
            client.connect((NODE, NODE_PORT))
            server, (seen, _) = listener.accept()
            server.settimeout(ANSWER_S)
            assert seen == NODE
            talk(client, server, b"before")
        monkeypatch.delenv("PYTHONPATH")
        with agent(node):
            status = node.status()
            assert status["layout"] == layout.LAYOUT_HASH != old
            assert f"maps of another layout ({old}) are replaced" in status["upgrade"]
            assert "flows: 2 entries were carried over" in status["upgrade"]
            assert identifiers(node) == before
            talk(client, server, b"after")
            assert os.listdir(node.root / "bpf/kubypass") != []
            assert not (node.root / "bpf/kubypass" / old).exists()
            flows = Pins(node.root / "bpf").open_map("flows")
            services = {layout.Flow.unpack(value).service for _, value in flows.items()}
            assert services == {before[f"{NODE}:{NODE_PORT}/TCP"]}
        for one in (client, server, listener):
            one.close()


def fill_flows(node: BareNode, count: int) -> None:
    """Adds connections of others, which take some time to copy."""
    flows = Pins(node.root / "bpf").open_map("flows")
    value = bytearray(layout.FLOW_SIZE)
    struct.pack_into(
        "=Q", value, layout.FLOW_EXPIRES_NS_AT, time.monotonic_ns() + 3_600_000_000_000
    )
    here = parse_address(NODE)
    sources = (here[:12] + struct.pack(">I", 0x0A000000 + number) for number in range(count))
    keys = [layout.Tuple(source, here, 1000, NODE_PORT, 6).pack() for source in sources]
    flows.update_batch(b"".join(keys), bytes(value) * count, count)


def test_connections_opened_during_an_upgrade_go_on(
    other_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs with maps of either layout open connections while one takes over from the other."""
    with bare_node() as node, neighbours(node, [CLIENT]) as far:
        write_node_port(node)
        with three_diallers(far) as diallers:
            with agent(node):
                fill_flows(node, 30_000)
            for dialler in diallers:
                dialler.start()
            for _ in range(2):
                monkeypatch.setenv("PYTHONPATH", str(other_version))
                with agent(node):
                    assert node.status()["layout"] != layout.LAYOUT_HASH
                monkeypatch.delenv("PYTHONPATH")
                with agent(node):
                    assert node.status()["layout"] == layout.LAYOUT_HASH
        assert min(dialler.opened for dialler in diallers) > 100
        assert [dialler.failures for dialler in diallers] == [[], [], []]


def end_in_the_middle(node: BareNode, layout_hash: str) -> None:
    """An agent that ends between the pins of its maps and of its programs: both layouts are there then."""
    where = node.root / "bpf/kubypass"
    in_the_way = list((where / "programs").iterdir())
    for path in in_the_way:
        path.unlink()
        path.mkdir()
    command = [
        "nsenter",
        f"--net=/run/netns/{node.namespace}",
        str(Path(sys.executable).parent / "kubypass"),
        "agent",
    ]
    options = {"manifests": node.manifests, "node": "bench", "run": node.run, "cgroup": node.cgroup}
    options["bpffs"] = node.root / "bpf"
    words = [f"--{name}={value}" for name, value in options.items()]
    ended = subprocess.run(
        [*command, *words], stderr=subprocess.DEVNULL, timeout=2 * DEADLINE_S, check=False
    )
    assert ended.returncode
    for path in in_the_way:
        path.rmdir()
    assert (where / layout_hash).exists()
    assert len(list(where.iterdir())) == 4  # links, programs and two layouts


def test_an_upgrade_that_ends_in_the_middle_is_taken_up_again(
    other_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bare_node() as node, neighbours(node, [CLIENT]) as far:
        write_node_port(node)
        with echo_server(far):
            dialler = Dialler(far)
            monkeypatch.setenv("PYTHONPATH", str(other_version))
            with agent(node):
                before, old = identifiers(node), node.status()["layout"]
                with inside(far):
                    client = dialler.dial()
            monkeypatch.delenv("PYTHONPATH")
            end_in_the_middle(node, layout.LAYOUT_HASH)
            assert dialler.goes_on(time.monotonic() + 1, client)
            monkeypatch.setenv("PYTHONPATH", str(other_version))
            with agent(node):  # back, with both layouts there
                assert node.status()["layout"] == old
                assert not (node.root / "bpf/kubypass" / layout.LAYOUT_HASH).exists()
                assert dialler.goes_on(time.monotonic() + 1, client)
            monkeypatch.delenv("PYTHONPATH")
            end_in_the_middle(node, layout.LAYOUT_HASH)
            with agent(node):  # onwards
                assert identifiers(node) == before
                assert not (node.root / "bpf/kubypass" / old).exists()
                assert dialler.goes_on(time.monotonic() + 1, client)
            client.close()
