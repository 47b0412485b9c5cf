# SPDX-License-Identifier: Apache-2.0
"""The transport protocols of Services, by their IANA numbers, as the kernel and the maps have them."""

from __future__ import annotations

from enum import IntEnum


class Protocol(IntEnum):
    """A protocol number of the IP header."""

    TCP = 6
    UDP = 17
    SCTP = 132
