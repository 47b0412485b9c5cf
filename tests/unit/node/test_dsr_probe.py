# SPDX-License-Identifier: Apache-2.0
"""The probes of DSR, between two addresses of the loopback device."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from kubypass.model.address import Address, format_address, parse_address
from kubypass.model.dsr import DsrPath
from kubypass.model.verdict import DsrDispatch
from kubypass.node import dsr_probe
from kubypass.node.dsr_probe import DsrProbe
from kubypass.node.dsr_tunnel import GENEVE_PORT
from tests.waiting import wait

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: sets IP options")
PORT = 19969
ONE, TWO = map(parse_address, ("127.0.0.2", "127.0.0.3"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dsr_probe, "ROUND_S", 0.2)


def made(
    own: Address, *targets: Address, ways: tuple[DsrDispatch, ...] = (DsrDispatch.OPTION,)
) -> DsrProbe:
    probe = DsrProbe(PORT, ways)
    probe.own, probe.targets = (own,), tuple(targets)
    return probe


class Unwrapping(threading.Thread):
    """Takes what comes in Geneve out of it, as the programs of a node do."""

    def __init__(self, address: Address) -> None:
        super().__init__(daemon=True)
        self._outer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._outer.bind((format_address(address), GENEVE_PORT))
        self._outer.settimeout(0.1)
        self._raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.ends = threading.Event()

    def run(self) -> None:
        while not self.ends.is_set():
            try:
                data = self._outer.recv(65535)
            except TimeoutError:
                continue
            packet = data[8 + 12 + 14 :]
            self._raw.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
        self._outer.close()
        self._raw.close()


@pytest.fixture
def unwrapping() -> Iterator[None]:
    thread = Unwrapping(TWO)
    thread.start()
    yield
    thread.ends.set()
    thread.join()


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
        found = becomes(one, lambda path: path.mtu == 9000)
        assert (found.dispatch, found.why) == (DsrDispatch.OPTION, "")
    finally:
        two.close()
    gone = becomes(one, lambda path: f"does not answer at UDP port {PORT}" in path.why)
    assert gone.dispatch == DsrDispatch.NONE


def test_a_node_that_does_not_answer_strangers(one: DsrProbe) -> None:
    two = made(TWO, parse_address("127.0.0.9"))
    try:
        gone = becomes(one, lambda path: bool(path.why))
        assert gone.dispatch == DsrDispatch.NONE
    finally:
        two.close()


@contextmanager
def asked(*ways: DsrDispatch) -> Iterator[DsrProbe]:
    """A node that asks in these ways; the other one answers."""
    one, two = made(ONE, TWO, ways=ways), made(TWO, ONE, ways=ways)
    try:
        yield one
    finally:
        one.close()
        two.close()


GENEVE, OPTION = DsrDispatch.GENEVE, DsrDispatch.OPTION


@pytest.mark.usefixtures("unwrapping")
def test_geneve_that_arrives() -> None:
    with asked(GENEVE) as probe:
        assert becomes(probe, lambda path: path.mtu == 9000).dispatch == GENEVE
    with asked(OPTION, GENEVE) as probe:
        assert becomes(probe, lambda path: path.mtu == 9000).dispatch == OPTION


def test_geneve_that_does_not_arrive() -> None:
    """Nobody there takes the question out of it."""
    with asked(GENEVE) as probe:
        found = becomes(probe, lambda path: "does not answer" not in path.why)
        assert found.dispatch == DsrDispatch.NONE
        assert "Geneve (UDP port 6081) does not arrive there" in found.why


@pytest.mark.usefixtures("unwrapping")
def test_geneve_for_which_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dsr_probe, "_LEAST_MTU", {(GENEVE, 4): 9500})
    with asked(GENEVE) as probe:
        found = becomes(probe, lambda path: "9500" in path.why)
        assert found.dispatch == DsrDispatch.NONE
        assert found.why == "Geneve does not fit: the path takes 9000 bytes, and 9500 are needed"


def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.2", PORT))
        probe = made(ONE, TWO)
        try:
            wait(lambda: probe.trouble, "the trouble")
            assert f"127.0.0.2 UDP port {PORT}: Address already in use" in probe.trouble
        finally:
            probe.close()
