# SPDX-License-Identifier: Apache-2.0
"""A network namespace with an uplink, a gateway and routes, so that FIB lookups find something."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from kubypass.kernel import netns
from tests.packet.packets import GATEWAY_MAC, NODE_MAC

_SETUP = """
link add eth0 address {node_mac} type veth peer name far
link set eth0 up
link set far up
link set lo up
addr add 192.168.1.31/24 dev eth0
addr add fd00:c0a8:1::31/64 dev eth0 nodad
neigh add 192.168.1.1 lladdr {gateway} dev eth0 nud permanent
neigh add 192.168.1.32 lladdr {gateway} dev eth0 nud permanent
neigh add fd00:c0a8:1::32 lladdr {gateway} dev eth0 nud permanent
neigh add fd00:c0a8:1::1 lladdr {gateway} dev eth0 nud permanent
route add default via 192.168.1.1
route add default via fd00:c0a8:1::1
"""
SECOND_MAC, SECOND_GATEWAY_MAC = "02:00:00:00:02:31", "02:00:00:00:02:01"
SECOND_UPLINK = f"""
link add eth1 address {SECOND_MAC} type veth peer name far1
link set eth1 up
link set far1 up
addr add 192.168.2.31/24 dev eth1
addr add fd00:c0a8:2::31/64 dev eth1 nodad
addr add 192.168.1.131/32 dev eth0
addr add fd00:c0a8:1::131/128 dev eth0 nodad preferred_lft 0
neigh add 192.168.2.1 lladdr {SECOND_GATEWAY_MAC} dev eth1 nud permanent
neigh add fd00:c0a8:2::1 lladdr {SECOND_GATEWAY_MAC} dev eth1 nud permanent
"""
"""Another uplink with its gateway, and addresses of the first that routes may prefer."""
NO_SECOND_UPLINK = """
link delete eth1
addr delete 192.168.1.131/32 dev eth0
addr delete fd00:c0a8:1::131/128 dev eth0
"""
_POD = """
link add index {index} name pod{index} type veth peer name inside{index}
link set pod{index} up
link set inside{index} up
"""
POD_DEVICES = range(14, 22)
"""The indexes of devices that pods are behind."""


@contextmanager
def namespace() -> Iterator[str]:
    """A network namespace with the uplink; its path. It has no name: it goes with this process, however that ends."""
    opened = netns.create()
    path = f"/proc/{os.getpid()}/fd/{opened}"
    try:
        run_inside(path, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        lines = _SETUP.format(node_mac=NODE_MAC, gateway=GATEWAY_MAC)
        lines += "".join(_POD.format(index=index) for index in POD_DEVICES)
        run_inside(path, "ip", "-batch", "-", lines=lines)
        yield path
    finally:
        os.close(opened)


def run_inside(path: str, *command: str, lines: str = "") -> str:
    """What a command in the namespace says."""
    argv = ["nsenter", f"--net={path}", *command]
    return subprocess.run(argv, input=lines, text=True, stdout=subprocess.PIPE, check=True).stdout


_INDEX: list[int] = []


def remember_uplink(path: str) -> None:
    """The uplink's index in the lab's namespace."""
    _INDEX[:] = [int(run_inside(path, "ip", "-o", "link", "show", "eth0").split(":")[0])]


def uplink_index() -> int:
    """The index that `remember_uplink` has found."""
    return _INDEX[0]
