# SPDX-License-Identifier: Apache-2.0
"""A network for traces of given objects: a device that leads everywhere, in a namespace that leads nowhere.

The default routes use gateways whose MAC addresses are known, so that route lookups of the programs succeed.
"""

from __future__ import annotations

import socket
from contextlib import suppress

from kubypass.errors import KernelError
from kubypass.kernel import sysctl, veth
from kubypass.kernel.netlink import Netlink, Route

UPLINK_NAME = "uplink"
_UPLINK = veth.End(UPLINK_NAME, bytes.fromhex("024b50000002"))
_FAR = veth.End("far", bytes.fromhex("024b50000004"))
_GATEWAY_MAC = bytes.fromhex("024b50000003")
_GATEWAYS = {
    socket.AF_INET: socket.inet_aton("192.0.0.8"),  # RFC 7600
    socket.AF_INET6: socket.inet_pton(socket.AF_INET6, "fe80::8"),
}
_MTU_BYTES = 1500


def make_uplink(netns_fd: int) -> int:
    """Makes the network in the current namespace, whose descriptor is `netns_fd`.

    Returns the index of the device that packets arrive on. It is not the uplink: whether the real network would send a
    packet back to where it came from is not known.
    """
    _enable_forwarding()
    with Netlink() as netlink:
        veth.set_up(netlink, _index(netlink, "lo"))
        veth.add_pair(netlink, _UPLINK, _FAR, netns_fd, _MTU_BYTES)
        uplink, far = (_index(netlink, end.name) for end in (_UPLINK, _FAR))
        veth.set_up(netlink, uplink)
        veth.set_up(netlink, far)
        for family, gateway in _GATEWAYS.items():
            veth.set_neighbour(netlink, uplink, gateway, _GATEWAY_MAC)
            netlink.replace_route(Route(gateway, 8 * len(gateway), b"", uplink, family))
            netlink.replace_route(Route(b"", 0, gateway, uplink, family))
    return far


def _enable_forwarding() -> None:
    """Route lookups of the programs fail on devices that do not forward; in /proc that is read-only, they stay so."""
    with suppress(OSError):
        for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            sysctl.path_of(name).write_text("1")


def _index(netlink: Netlink, name: str) -> int:
    found = netlink.link(name)
    if found is None:
        raise KernelError("find device", name, 0)
    return found.index
