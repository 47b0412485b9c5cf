# SPDX-License-Identifier: Apache-2.0
"""What all tests need."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pytest_configure() -> None:
    """What a shell starts in its background ignores Ctrl-C, and so would the commands that tests interrupt.

    No example fails because a machine is slow.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    settings.load_profile("patient")
