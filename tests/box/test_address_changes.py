# SPDX-License-Identifier: Apache-2.0
"""The node's own addresses come and go, and its primary address with them: nobody waits for programs to be loaded."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from kubypass.kernel.netns import inside
from kubypass_lab.box.box import node_manifest
from kubypass_lab.box.files import read_json, write_json
from kubypass_lab.box.paths import CLIENT, FABRIC, NETNS
from kubypass_lab.box.patience import DEADLINE_S
from kubypass_lab.box.process import wait_until
from kubypass_lab.box.wiring import ip_batch
from tests.box.conftest import GUIDE, HERE, Cluster, own_box

pytestmark = pytest.mark.xdist_group("address-changes")
NEW = {4: "192.168.1.61", 6: "2001:db8:61::61"}
BITS = {4: 24, 6: 64}


@pytest.fixture(scope="module")
def home() -> Iterator[Cluster]:
    with own_box("adr", GUIDE / "cilium-config.yaml", HERE / "cluster.yaml") as box:
        fabric = box.paths.namespace(FABRIC)
        ip_batch(fabric, ["addr add 2001:db8:61::1/64 dev nodes nodad"])
        yield Cluster(box)


def connects(address: str, port: int) -> bool:
    """Whether a connection opens and is answered, without a second try."""
    try:
        with socket.create_connection((address, port), timeout=5) as opened:
            opened.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return bool(opened.recv(100))
    except OSError:
        return False


@contextmanager
def connecting(cluster: Cluster, address: str, port: int) -> Iterator[list[bool]]:
    """Connects from the client every 20 ms for the length of a block; how each went."""
    stop, went = threading.Event(), []

    def run() -> None:
        with inside(NETNS / cluster.box.paths.namespace(CLIENT)):
            while not stop.wait(0.02):
                went.append(connects(address, port))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield went
    finally:
        stop.set()
        thread.join()


def rename(cluster: Cluster, addresses: list[str]) -> None:
    """Names these addresses, the first of which becomes the primary one, in the Node object."""
    path = node_manifest(cluster.box.paths, cluster.box.topology.node("node1"))
    manifest = read_json(path)
    assert manifest
    status = manifest["status"]
    assert isinstance(status, dict)
    status["addresses"] = [{"type": "InternalIP", "address": address} for address in addresses]
    write_json(path, manifest)


def direct(cluster: Cluster) -> str:
    """What the status says of the node's uplink."""
    return str(cluster.status("node1")["kube_proxy_replacement"]["devices"])


def becomes(condition: Callable[[], bool], what: str) -> None:
    assert wait_until(condition, DEADLINE_S), f"not within {DEADLINE_S} s: {what}"


@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
def test_nobody_notices_that_the_primary_address_changes(home: Cluster, version: int) -> None:
    node = home.box.topology.node("node1")
    namespace, old = home.box.paths.namespace(node.name), str(node.address(version))
    every, port, new = [str(a.ip) for a in node.addresses], home.node_port("echo"), NEW[version]
    log = home.box.paths.agent_run(node.name) / "agent.log"
    loads = log.read_text().count("programs=loaded")
    nodad = " nodad" if version == 6 else ""
    with connecting(home, old, port) as went:
        becomes(lambda: len(went) > 5, "connections are opened")
        for _ in range(3):
            ip_batch(namespace, [f"addr add {new}/{BITS[version]} dev eth0{nodad}"])
            added = time.monotonic()
            rename(home, [new, *every])
            with inside(NETNS / home.box.paths.namespace(FABRIC)):
                becomes(lambda: connects(new, port), "the new address is served")
            print(f"served after {time.monotonic() - added:.3f} s")
            becomes(lambda: new in direct(home), "the new address is known")
            rename(home, every)
            ip_batch(namespace, [f"addr del {new}/{BITS[version]} dev eth0"])
            becomes(lambda: new not in direct(home), "the new address is forgotten")
    assert went.count(False) == 0, f"{went.count(False)} of {len(went)} failed"
    assert log.read_text().count("programs=loaded") == loads, "programs were loaded again"
