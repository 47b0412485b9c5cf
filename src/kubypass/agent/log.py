# SPDX-License-Identifier: Apache-2.0
"""Logs events for operators: one line each on standard error, `time LEVEL event key=value …`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from kubypass.model.printable import printable


def log(event: str, level: str = "INFO", **fields: object) -> None:
    """Logs one event. Values with spaces are quoted."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    parts = [f"{key}={_value(value)}" for key, value in fields.items()]
    print(" ".join([now, level, event, *parts]), file=sys.stderr, flush=True)


def _value(value: object) -> str:
    text = f"{value:.1f}" if isinstance(value, float) else printable(str(value))
    return f'"{text}"' if " " in text else text
