# SPDX-License-Identifier: Apache-2.0
"""Healthy, unless something waits too long."""

from __future__ import annotations

import pytest

from kubypass.agent.health import HUNG_S, TIMEOUT_S, Health


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_healthy_from_the_start() -> None:
    clock = Clock()
    health = Health(clock, clock)
    clock.now += 10 * TIMEOUT_S
    assert health.is_healthy()
    assert (health.queued, health.updated) == (None, None)


def test_unhealthy_while_something_waits_for_too_long() -> None:
    clock = Clock()
    health = Health(clock, clock)
    with health.update():
        clock.now += TIMEOUT_S - 1
        assert health.is_healthy()
        clock.now += 1
        assert not health.is_healthy()
        assert health.updated is None
    assert health.is_healthy()
    times: tuple[object, object] = (health.queued, health.updated)
    assert times == (100.0, 100.0 + TIMEOUT_S)


def test_what_failed_still_waits_and_the_oldest_counts() -> None:
    clock = Clock()
    health = Health(clock, clock)
    with pytest.raises(OSError, match="no"), health.update():
        raise OSError("no")
    clock.now += TIMEOUT_S - 1
    with health.update():
        assert health.is_healthy()
        clock.now += 1
        assert not health.is_healthy()
    assert health.is_healthy()


def test_a_success_does_not_make_up_for_another_failure() -> None:
    clock = Clock()
    health = Health(clock, clock)
    with pytest.raises(OSError, match="no"), health.update("network"):
        raise OSError("no")
    clock.now += TIMEOUT_S
    with health.update("services"):
        pass
    assert not health.is_healthy()
    with health.update("network"):
        pass
    assert health.is_healthy()


def test_a_loop_that_hangs() -> None:
    clock = Clock()
    health = Health(clock, clock)
    health.beat()
    clock.now += HUNG_S - 1
    assert health.is_healthy()
    clock.now += 1
    assert not health.is_healthy()
    assert health.is_alive()
    assert "hung" in health.hung()[0].message
    clock.now += TIMEOUT_S
    assert not health.is_alive()
    health.beat()
    assert health.is_healthy()


def test_what_is_not_served_is_said() -> None:
    health = Health()
    health.outages = ("net.ipv4.ip_forward is off",)
    assert health.reasons() == ["net.ipv4.ip_forward is off"]
    assert health.is_alive(), "a restart would not help"
