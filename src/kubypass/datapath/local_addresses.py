# SPDX-License-Identifier: Apache-2.0
"""Makes the entries of the maps `local_addresses` and `node_addresses`: addresses of this node and of its pods."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from kubypass.datapath import layout
from kubypass.model.address import Address
from kubypass.model.constants import NETNS_UNKNOWN
from kubypass.model.pod import Pod
from kubypass.model.verdict import LocalAddressKind

_NO_MAC = bytes(6)
_NO_ADDRESS = bytes(16)


def primary_entry(primary: Mapping[int, Address]) -> dict[bytes, bytes]:
    """Returns the one entry of `node_addresses`; `primary` has addresses by family."""
    value = layout.NodeAddresses(primary.get(4, _NO_ADDRESS), primary.get(6, _NO_ADDRESS))
    return {bytes(4): value.pack()}


def node_entries(
    addresses: Iterable[Address], with_node_ports: Collection[Address]
) -> dict[bytes, bytes]:
    """Returns entries of the node's addresses; NodePorts answer on those in `with_node_ports`."""
    return {
        address: layout.LocalAddress(
            0,
            _NO_MAC,
            _NO_MAC,
            LocalAddressKind.NODE_PORTS if address in with_node_ports else LocalAddressKind.NODE,
            NETNS_UNKNOWN,
        ).pack()
        for address in addresses
    }


def pod_entries(pod: Pod, ifindex: int, host_mac: bytes, netns: int) -> dict[bytes, bytes]:
    """Returns entries of one pod; `ifindex` and `host_mac` are of the veth on the node, `netns` of its other end."""
    mac = bytes.fromhex(pod.mac.replace(":", ""))
    value = layout.LocalAddress(ifindex, mac, host_mac, LocalAddressKind.POD, netns).pack()
    return dict.fromkeys(pod.addresses, value)
