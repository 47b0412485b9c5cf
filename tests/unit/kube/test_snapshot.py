# SPDX-License-Identifier: Apache-2.0
"""Names of a snapshot's objects, also while another thread changes them."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kubypass.kube.snapshot import Snapshot
from kubypass.model.address import parse_address
from kubypass.model.node import Node
from kubypass.model.service import Service

ADDRESS = parse_address("10.233.0.1")
MANY = 5_000


def service(name: str) -> Service:
    return Service("default", name, "ClusterIP", (ADDRESS,), (), (), ())


def node(name: str) -> Node:
    return Node(name, (ADDRESS,), (), (f"{name}.example",))


def test_every_name_of_a_node_and_services() -> None:
    found = Snapshot({("default", "web"): service("web")}, {}, {"a": node("a")}, ()).names()
    assert found == {
        "nodes": {"a": ["10.233.0.1"], "a.example": ["10.233.0.1"]},
        "services": {"default/web": ["10.233.0.1"]},
    }


def let_others_run(*_: object) -> None:
    time.sleep(0)


@pytest.fixture
def interrupted() -> Iterator[None]:
    """Other threads run in every garbage collection, as they do when one closes a file."""
    gc.callbacks.append(let_others_run)
    yield
    gc.callbacks.remove(let_others_run)


@pytest.mark.usefixtures("interrupted")
@pytest.mark.parametrize("changing", ["nodes", "services"])
def test_while_it_changes(changing: str) -> None:
    services = {("default", str(n)): service(str(n)) for n in range(MANY)}
    nodes = {str(n): node(str(n)) for n in range(MANY)}
    snapshot = Snapshot(services, {}, nodes, ())
    cases: dict[str, tuple[dict[Any, Any], object, object]] = {
        "nodes": (nodes, "new", node("new")),
        "services": (services, ("default", "new"), service("new")),
    }
    target, key, value = cases[changing]
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            if target.pop(key, None) is None:
                target[key] = value

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(5):
            assert len(snapshot.names()[changing]) >= MANY
    finally:
        done.set()
        changer.join()
