# SPDX-License-Identifier: Apache-2.0
"""Words that the rows of `trace --batch` share."""

from __future__ import annotations

from collections.abc import Callable

from tests.trace.cases import (
    ALT,
    EXTERNAL_IP,
    NODE,
    NODE_PORT,
    VIP,
)

Expected = str | tuple[tuple[str, ...], bool]
"""A verdict, or the backends and whether the client is masqueraded."""
Check = Callable[..., None]
"""Takes a case, a source, an address, a port and what to expect."""
BOTH = ("10.0.1.1", "10.0.2.1")
MINE, OTHER = ("10.0.1.1",), ("10.0.2.1",)
EXTERNAL = [(EXTERNAL_IP, 80), (VIP, 80), (NODE, NODE_PORT), (ALT, NODE_PORT)]
LOCAL = {"externalTrafficPolicy": "Local"}
ELSEWHERE = "10.0.2.1@other"
ENDING = "10.0.1.1@me=st 10.0.2.1@other=st"


def last(address: str) -> str:
    """The last part of an address of either family, as a number in decimal."""
    text = address.strip("[]")
    return text.rpartition(":")[2] if ":" in text else text.rpartition(".")[2]
