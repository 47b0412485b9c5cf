# SPDX-License-Identifier: Apache-2.0
"""What a driver says of its device: ethtool's requests by ioctl(2)."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from dataclasses import dataclass

_SIOCETHTOOL = 0x8946
_DRIVER_INFO, _FLAGS, _CHANNELS = 0x3, 0x25, 0x3C
_LRO = 1 << 15
_DRIVER_BYTES, _CHANNEL_BYTES = 196, 36


@dataclass(frozen=True, slots=True)
class DriverFacts:
    """What matters for programs in a driver. What a driver does not tell has the default."""

    driver: str = ""
    lro: bool = False
    """The device joins segments before a program sees them (large receive offload)."""
    queues: int = 0
    """Pairs of queues in use; 0: unknown."""
    max_queues: int = 0


def read_driver(name: str) -> DriverFacts:
    """Asks the driver of a device in this network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        info = _ask(asker, name, _DRIVER_INFO, _DRIVER_BYTES)
        flags = _ask(asker, name, _FLAGS, 8)
        channels = _ask(asker, name, _CHANNELS, _CHANNEL_BYTES)
    driver = info[4:36].split(b"\0")[0].decode("ascii", "replace")
    lro = bool(struct.unpack_from("=I", flags, 4)[0] & _LRO)
    # struct ethtool_channels: the most of receive, transmit, other and combined ones, then how many are in use.
    _, _, _, _, most, _, _, _, now = struct.unpack("=9I", channels)
    return DriverFacts(driver, lro, now, most)


def _ask(asker: socket.socket, name: str, command: int, size: int) -> bytes:
    """The answer, which begins with the command; zeros where the driver has none."""
    answer = ctypes.create_string_buffer(struct.pack("=I", command), size)
    request = struct.pack("=16sQ16x", os.fsencode(name)[:15], ctypes.addressof(answer))
    try:
        fcntl.ioctl(asker, _SIOCETHTOOL, request)
    except OSError:
        return bytes(size)
    return answer.raw
