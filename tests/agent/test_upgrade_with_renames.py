# SPDX-License-Identifier: Apache-2.0
"""An agent from before maps and fields were renamed is followed by ours: connections of both families go on."""

from __future__ import annotations

import os
import socket
import struct
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from kubypass.datapath import layout
from kubypass.datapath.pins import Pins
from kubypass.kernel.bpf import Map
from kubypass.kernel.map_types import map_types
from kubypass.model.address import parse_address
from kubypass.model.verdict import FlowFlag
from kubypass_lab.bench.node import BareNode, agent, bare_node
from kubypass_lab.box.patience import ANSWER_S
from tests.agent.both_families import add_ipv6, two_clients
from tests.agent.dialler import CLIENT, talk, three_diallers
from tests.agent.far import NODE, NODE_PORT, neighbours, write_node_port
from tests.agent.versions import earlier_version, has_commit, identifiers

COMMIT = "5061274"
"""The last version with the old names."""
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs"),
    pytest.mark.skipif(not has_commit(COMMIT), reason=f"commit {COMMIT} is not in this checkout"),
]


@pytest.fixture(scope="module")
def old_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The PYTHONPATH of the version before the renames."""
    return earlier_version(tmp_path_factory.mktemp("earlier"), COMMIT)


def add_flow_from_self(node: BareNode, layout_hash: str) -> bytes:
    """Adds a flow of a connection that the node opened to one of its own addresses; returns its key."""
    flows = Map.open_pinned(str(Pins(node.root / "bpf").root / layout_hash / "flows"))
    types = map_types(flows)
    assert types
    at = {member.name: member.offset for member in types[1].members}
    value = bytearray(types[1].size)
    here = parse_address(NODE)
    value[at["source"] : at["source"] + len(here)] = here
    value[at["from_self"]] = 1
    struct.pack_into("=Q", value, at["expires_ns"], time.monotonic_ns() + 3_600_000_000_000)
    key = layout.Tuple(here, here, 1000, NODE_PORT, socket.IPPROTO_SCTP).pack()
    flows.update(key, bytes(value))
    return key


def test_connections_of_both_families_go_on(
    old_names: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        bare_node() as node,
        neighbours(node, [CLIENT]) as far,
        ExitStack() as stack,
    ):
        write_node_port(node)
        add_ipv6(node, far)
        clients = stack.enter_context(two_clients(far))
        connections = []
        monkeypatch.setenv("PYTHONPATH", str(old_names))
        with agent(node):
            before = identifiers(node)
            old = node.status()["layout"]
            for client, node_port, listener in clients:
                client.connect(node_port)
                server, (seen, *_) = listener.accept()
                server.settimeout(ANSWER_S)
                connections.append((client, stack.enter_context(server)))
                assert seen == node_port[0]  # masqueraded
                talk(client, server, b"before")
            key = add_flow_from_self(node, old)
        monkeypatch.delenv("PYTHONPATH")
        with agent(node):
            status = node.status()
            assert status["layout"] == layout.LAYOUT_HASH != old
            assert f"maps of another layout ({old}) are replaced" in status["upgrade"]
            assert "flows: 4 entries were carried over" in status["upgrade"]
            assert "transient_flows: 1 entries were carried over" in status["upgrade"]
            refused = [note for note in status["upgrade"] if "nothing was carried over" in note]
            assert refused == []
            for name in ("services", "slots", "backends", "local_addresses"):
                (note,) = (n for n in status["upgrade"] if n.startswith(f"{name}: "))
                assert note.endswith(" entries were carried over")
                assert note != f"{name}: 0 entries were carried over"
            assert identifiers(node) == before
            for client, server in connections:
                talk(client, server, b"after")
            value = Pins(node.root / "bpf").open_map("transient_flows").lookup(key)
            assert value
            assert layout.Flow.unpack(value).flags == FlowFlag.FROM_SELF
            assert not (node.root / "bpf/kubypass" / old).exists()


def test_connections_opened_during_the_upgrade_go_on(
    old_names: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While links are switched, our programs try those of the earlier version for connections that only they know."""
    with bare_node() as node, neighbours(node, [CLIENT]) as far:
        write_node_port(node)
        with three_diallers(far) as diallers:
            monkeypatch.setenv("PYTHONPATH", str(old_names))
            with agent(node):
                for dialler in diallers:
                    dialler.start()
                old = node.status()["layout"]
            monkeypatch.delenv("PYTHONPATH")
            with agent(node):
                assert node.status()["layout"] == layout.LAYOUT_HASH != old
                notes = node.status()["upgrade"]
                assert not [note for note in notes if "may fail" in note]
        assert min(dialler.opened for dialler in diallers) > 20
        assert [dialler.failures for dialler in diallers] == [[], [], []]
