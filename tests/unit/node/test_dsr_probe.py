# SPDX-License-Identifier: Apache-2.0
"""The probes of DSR, between two addresses of the loopback device."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator

import pytest

from kubypass.model.address import Address, parse_address
from kubypass.model.dsr import DsrPath
from kubypass.model.verdict import DsrDispatch
from kubypass.node import dsr_probe
from kubypass.node.dsr_probe import DsrProbe
from tests.waiting import wait

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: sets IP options")
PORT = 19969
ONE, TWO = map(parse_address, ("127.0.0.2", "127.0.0.3"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dsr_probe, "ROUND_S", 0.2)


def made(own: Address, *targets: Address) -> DsrProbe:
    probe = DsrProbe(PORT)
    probe.own, probe.targets = (own,), tuple(targets)
    return probe


@pytest.fixture
def one() -> Iterator[DsrProbe]:
    probe = made(ONE, TWO)
    yield probe
    probe.close()


def becomes(probe: DsrProbe, wanted: Callable[[DsrPath], bool]) -> DsrPath:
    wait(lambda: TWO in probe.paths and wanted(probe.paths[TWO]), "what is known of the node")
    return probe.paths[TWO]


def test_a_node_that_answers(one: DsrProbe) -> None:
    two = made(TWO, ONE)
    try:
        found = becomes(one, lambda path: path.dispatch == DsrDispatch.OPTION)
        assert (found.mtu, found.why) == (9000, "")
    finally:
        two.close()
    gone = becomes(one, lambda path: path.dispatch == DsrDispatch.NONE)
    assert f"does not answer at UDP port {PORT}" in gone.why


def test_a_node_that_does_not_answer_strangers(one: DsrProbe) -> None:
    two = made(TWO, parse_address("127.0.0.9"))
    try:
        gone = becomes(one, lambda path: bool(path.why))
        assert gone.dispatch == DsrDispatch.NONE
    finally:
        two.close()


def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.2", PORT))
        probe = made(ONE, TWO)
        try:
            wait(lambda: probe.trouble, "the trouble")
            assert f"127.0.0.2 UDP port {PORT}: Address already in use" in probe.trouble
        finally:
            probe.close()
