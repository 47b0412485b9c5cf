# SPDX-License-Identifier: Apache-2.0
"""Waits for a condition; a slow machine only makes it take longer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from kubypass_lab.box.patience import DEADLINE_S, SLOWNESS

T = TypeVar("T")


def wait(condition: Callable[[], T], what: str, seconds: float = DEADLINE_S / SLOWNESS) -> T:
    """Until the condition holds; its value. `seconds` is what a machine of usual speed may take."""
    seconds *= SLOWNESS
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)
    return value
