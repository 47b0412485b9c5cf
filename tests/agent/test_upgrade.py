# SPDX-License-Identifier: Apache-2.0
"""An agent with other structs in its maps takes over from another: a real connection through a NodePort goes on."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import pytest

from kubypass.datapath import layout
from kubypass.kernel.bpf import Map
from kubypass.kernel.netns import inside
from kubypass.model.address import parse_address
from kubypass_lab.bench.node import BareNode, agent, bare_node
from tests.agent.far import BACKEND, NODE, NODE_PORT, neighbours, write_node_port

ROOT = Path(__file__).parents[2]
CLIENT = "192.168.1.40"
OTHER_STRUCTS = {
    "struct flow {": "struct flow {\n\t__u64 colour;",  # a field more
    "struct service {": "struct service {\n\t__u32 pad;",  # others at another place
    "struct backend {": "struct backend {\n\t__u32 pad;",
}
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")


@pytest.fixture(scope="module")
def other_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package whose programs and Python have other structs; its PYTHONPATH."""
    root = tmp_path_factory.mktemp("other")
    shutil.copytree(ROOT / "bpf", root / "bpf")
    package = root / "src/kubypass"
    shutil.copytree(ROOT / "src/kubypass", package)
    header = root / "bpf/kubypass.h"
    text = header.read_text()
    for old, new in OTHER_STRUCTS.items():
        assert old in text
        text = text.replace(old, new)
    header.write_text(text)
    (package / "bpf").mkdir()
    machine = os.uname().machine
    flags = ["-O2", "-g", "-target", "bpf", f"-I/usr/include/{machine}-linux-gnu"]
    for source in (root / "bpf").glob("*.bpf.c"):
        target = package / "bpf" / source.with_suffix(".o").name
        subprocess.run(["clang-19", *flags, "-c", source, "-o", target], check=True)
    subprocess.run(
        [sys.executable, "-m", "kubypass.datapath.generate", package / "bpf", package],
        env={**os.environ, "PYTHONPATH": str(root / "src")}, check=True,
    )  # fmt: skip
    return root / "src"


def rows(node: BareNode) -> dict[str, int]:
    """Identifiers by frontend."""
    found = json.loads(node.ask("/services")[1])["services"]
    return {row["frontend"]: row["id"] for row in found}


def talk(client: socket.socket, server: socket.socket, words: bytes) -> None:
    """Both ways, over the connection that there is."""
    for sender, receiver in ((client, server), (server, client)):
        sender.sendall(words)
        assert receiver.recv(100) == words


def test_connections_go_on_through_an_upgrade(
    other_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bare_node() as node, neighbours(node, [CLIENT]) as far:
        write_node_port(node)
        with inside(far):
            listener = socket.create_server((BACKEND, 8080))
            client = socket.socket()
            client.bind((CLIENT, 0))
        client.settimeout(5)
        monkeypatch.setenv("PYTHONPATH", str(other_version))
        with agent(node):
            before = rows(node)
            old = node.status()["layout"]
            client.connect((NODE, NODE_PORT))
            server, (seen, _) = listener.accept()
            server.settimeout(5)
            assert seen == NODE
            talk(client, server, b"before")
        monkeypatch.delenv("PYTHONPATH")
        with agent(node):
            status = node.status()
            assert status["layout"] == layout.LAYOUT_HASH != old
            assert f"maps of another layout ({old}) are replaced" in status["upgrade"]
            assert "flows: 2 entries were carried over" in status["upgrade"]
            assert rows(node) == before
            talk(client, server, b"after")
            assert os.listdir(node.root / "bpf/kubypass") != []
            assert not (node.root / "bpf/kubypass" / old).exists()
            flows = Map.open_pinned(str(node.root / f"bpf/kubypass/{layout.LAYOUT_HASH}/flows"))
            services = {layout.Flow.unpack(value).service for _, value in flows.items()}
            assert services == {before[f"{NODE}:{NODE_PORT}/TCP"]}
        for one in (client, server, listener):
            one.close()


def fill_flows(node: BareNode, count: int) -> None:
    """Connections of others, which take their time to be carried over."""
    flows = Map.open_pinned(str(node.root / f"bpf/kubypass/{layout.LAYOUT_HASH}/flows"))
    value = bytearray(layout.FLOW_SIZE)
    struct.pack_into("=Q", value, layout.FLOW_SIZE - 8, time.monotonic_ns() + 3_600_000_000_000)
    here = parse_address(NODE)
    sources = (here[:12] + struct.pack(">I", 0x0A000000 + number) for number in range(count))
    keys = [layout.Tuple(source, here, 1000, NODE_PORT, 6).pack() for source in sources]
    flows.update_batch(b"".join(keys), bytes(value) * count, count)


def echo(listener: socket.socket) -> None:
    def answer(made: socket.socket) -> None:
        with made, suppress(OSError):
            while words := made.recv(100):
                made.sendall(words)

    with suppress(OSError):
        while True:
            Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()


class Dialler(Thread):
    """Opens connections without end, and talks over each for a while."""

    LIVES_S = 0.3

    def __init__(self, far: str) -> None:
        super().__init__()
        self.far, self.over = far, Event()
        self.opened = 0
        self.failures: list[str] = []

    def run(self) -> None:
        kept: list[tuple[float, socket.socket]] = []
        with inside(self.far):
            while not self.over.wait(0.002):
                kept.append((time.monotonic() + self.LIVES_S, self.dial()))
                kept = [each for each in kept if self.goes_on(*each)]
        for _, client in kept:
            client.close()

    def dial(self) -> socket.socket:
        client = socket.socket()
        client.settimeout(5)
        client.bind((CLIENT, 0))
        client.connect((NODE, NODE_PORT))
        self.opened += 1
        return client

    def goes_on(self, until_s: float, client: socket.socket) -> bool:
        if time.monotonic() < until_s:
            try:
                client.sendall(b"more")
                assert client.recv(100) == b"more"
            except OSError as error:
                self.failures.append(str(error))
            else:
                return True
        client.close()
        return False


def test_connections_opened_during_an_upgrade_go_on(
    other_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs with maps of either layout open connections while one takes over from the other."""
    with bare_node() as node, neighbours(node, [CLIENT]) as far:
        write_node_port(node)
        with inside(far):
            listener = socket.create_server((BACKEND, 8080), backlog=1000)
        Thread(target=echo, args=(listener,), daemon=True).start()
        diallers = [Dialler(far) for _ in range(3)]
        with agent(node):
            fill_flows(node, 30_000)
        try:
            for dialler in diallers:
                dialler.start()
            for _ in range(2):
                monkeypatch.setenv("PYTHONPATH", str(other_version))
                with agent(node):
                    assert node.status()["layout"] != layout.LAYOUT_HASH
                monkeypatch.delenv("PYTHONPATH")
                with agent(node):
                    assert node.status()["layout"] == layout.LAYOUT_HASH
        finally:
            for dialler in diallers:
                dialler.over.set()
                dialler.join(10)
        listener.close()
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
    ended = subprocess.run([*command, *words], stderr=subprocess.DEVNULL, timeout=60, check=False)
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
        with inside(far):
            listener = socket.create_server((BACKEND, 8080))
        Thread(target=echo, args=(listener,), daemon=True).start()
        dialler = Dialler(far)
        monkeypatch.setenv("PYTHONPATH", str(other_version))
        with agent(node):
            before, old = rows(node), node.status()["layout"]
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
            assert rows(node) == before
            assert not (node.root / "bpf/kubypass" / old).exists()
            assert dialler.goes_on(time.monotonic() + 1, client)
        client.close()
        listener.close()
