# SPDX-License-Identifier: Apache-2.0
"""A device of a node whose packets have no Ethernet header, or one of another kind."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from kubypass.kernel.netns import inside
from kubypass_lab.bench.node import BareNode

TUN_WITHOUT_HEADER, TUNSETIFF, TUNSETLINK = 0x1001, 0x400454CA, 0x400454CD
TUN, PPP, RAW_IP, INFINIBAND, IEEE_802_15_4 = 0xFFFE, 512, 519, 32, 805
"""ARPHRD_*: what a tun device is, and what it may pretend to be."""
OURS, PEER = "10.30.0.11", "10.30.0.1"


def ip(node: BareNode, *lines: str) -> None:
    command = ["ip", "-n", node.namespace, "-batch", "-"]
    subprocess.run(command, check=True, input="\n".join(lines), text=True)


@contextmanager
def device(node: BareNode, kind: int) -> Iterator[int]:
    """A tun device of a type, with an address and a default route: what is read and written is at its other end."""
    with inside(f"/run/netns/{node.namespace}"):
        opened = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(opened, TUNSETIFF, struct.pack("16sH22x", b"tun0", TUN_WITHOUT_HEADER))
        fcntl.ioctl(opened, TUNSETLINK, kind)
    try:
        ip(node, "link set tun0 up", f"addr add {OURS}/24 dev tun0")
        ip(node, f"route add default via {PEER} dev tun0")
        yield opened
    finally:
        os.close(opened)
