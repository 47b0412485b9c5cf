# SPDX-License-Identifier: Apache-2.0
"""What is known of the way to another node: whether that node takes part in DSR, and what arrives there."""

from __future__ import annotations

from dataclasses import dataclass

from kubypass.model.verdict import DsrDispatch


@dataclass(frozen=True, slots=True)
class DsrPath:
    """The way to one address of another node."""

    dispatch: DsrDispatch = DsrDispatch.NONE
    mtu: int = 0
    """The longest IP packet that arrived; 0: none of those that were tried."""
    why: str = ""
    """Why there is no dispatch."""
