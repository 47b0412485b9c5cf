# SPDX-License-Identifier: Apache-2.0
"""Transport protocols of services, by their IANA numbers (the kernel's and the maps' spelling)."""

from __future__ import annotations

from enum import IntEnum


class Protocol(IntEnum):
    """Number in the IP header."""

    TCP = 6
    UDP = 17
    SCTP = 132
