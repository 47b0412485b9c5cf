# SPDX-License-Identifier: Apache-2.0
"""What fails is a problem and is tried again later; what succeeds is none."""

from __future__ import annotations

import pytest

from kubypass.agent.attempts import Attempts, Part
from kubypass.agent.faults import Faults
from kubypass.errors import KernelError


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def refuse() -> None:
    raise KernelError("attach to", "device eth0", 1)


def fail() -> None:
    raise ZeroDivisionError("no")


def test_a_part_that_fails_waits_longer_each_time_and_keeps_no_other() -> None:
    clock, faults = Clock(), Faults()
    attempts = Attempts(faults, clock)
    waits = []
    for _ in range(9):
        assert not attempts.run(Part.NETWORK, refuse)
        assert attempts.run(Part.CLUSTER, lambda: None)
        assert not attempts.may(Part.NETWORK)
        assert attempts.may(Part.CLUSTER)
        began = clock.now
        while not attempts.due(Part.NETWORK):
            clock.now += 0.5
        waits.append(clock.now - began)
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    (problem,) = attempts.problems()
    assert "attach to device eth0: Operation not permitted" in problem.message
    assert attempts.run(Part.NETWORK, lambda: True)
    assert attempts.problems() == []
    assert faults.problems() == []


def test_a_fault_is_logged_once_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    faults = Faults()
    attempts = Attempts(faults)
    for _ in range(3):
        attempts.run(Part.FLOWS, fail)
    assert capsys.readouterr().err.count("Traceback") == 1
    assert faults.count == 3
    (problem,) = faults.problems()
    assert "ZeroDivisionError" in problem.message
    assert "3 times" in problem.message


def test_work_that_is_not_complete_has_problems_of_its_own() -> None:
    attempts = Attempts(Faults())
    assert not attempts.run(Part.NETWORK, lambda: False)
    assert attempts.problems() == []
    assert not attempts.may(Part.NETWORK)


def test_news_does_not_wait_for_what_failed_before() -> None:
    clock = Clock()
    attempts = Attempts(Faults(), clock)
    for _ in range(9):
        attempts.run(Part.NETWORK, refuse)
    attempts.run(Part.NETWORK, refuse, news=True)
    clock.now += 0.5
    assert attempts.due(Part.NETWORK)
