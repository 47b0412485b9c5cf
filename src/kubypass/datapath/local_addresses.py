# SPDX-License-Identifier: Apache-2.0
"""Makes the entries of the maps that tell which addresses and devices are on this node."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping

from kubypass.datapath import layout
from kubypass.model.address import Address, family, link_local_address
from kubypass.model.cidr import Cidr
from kubypass.model.constants import NETNS_UNKNOWN, POD_DEVICES, XDP_DEVICES
from kubypass.model.pod import Pod
from kubypass.model.verdict import InsideReason, LocalAddressKind, RedirectDomain

_NO_MAC = bytes(6)
_NO_ADDRESS = bytes(16)


def primary_entry(primary: Mapping[int, Address], only: int = 0) -> dict[bytes, bytes]:
    """Returns the one entry of `node_addresses`.

    `primary` has addresses by family; `only` the family bits in which the node has no other.
    """
    value = layout.NodeAddresses(primary.get(4, _NO_ADDRESS), primary.get(6, _NO_ADDRESS), only)
    return {bytes(4): value.pack()}


def uplink_entry(ifindex: int, sources: Mapping[int, Address]) -> dict[bytes, bytes]:
    """Returns the entry of `uplinks` for a device; `sources` has addresses by family."""
    return {struct.pack("=I", ifindex): primary_entry(sources)[bytes(4)]}


def inside_entries(inside: Mapping[Cidr, InsideReason]) -> dict[bytes, bytes]:
    """Returns the entries of `inside`."""
    return {
        layout.Prefix(cidr.bits, cidr.network).pack(): struct.pack("=I", reason)
        for cidr, reason in inside.items()
    }


def prefix_key(address: Address) -> bytes:
    """Returns the key by which one address is looked up in `inside`."""
    return layout.Prefix(8 * len(address), address).pack()


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


def empty_devices() -> dict[bytes, bytes]:
    """All slots of `pod_devices`, without a pod."""
    nothing = bytes(layout.POD_DEVICE_SIZE)
    return {struct.pack("=I", slot): nothing for slot in range(POD_DEVICES)}


def device_entry(pod: Pod, ifindex: int) -> dict[bytes, bytes]:
    """The entry of a pod's device: one address of each family, or the other family's in its place."""
    if not pod.addresses:
        return {}
    first = {family(address): address for address in reversed(pod.addresses)}
    ipv4, ipv6 = first.get(4) or first[6], first.get(6) or first[4]
    value = layout.PodDevice(ifindex, ipv4, ipv6, link_local_address(pod.mac)).pack()
    return {struct.pack("=I", ifindex % POD_DEVICES): value}


def xdp_devices(wanted: Mapping[int, tuple[bytes, RedirectDomain]]) -> dict[bytes, bytes]:
    """All slots of `xdp_devices`; `wanted` has MAC addresses, and which frames are taken, by the indexes of devices.

    Of several that share a slot, the first one has it.
    """
    nothing = bytes(layout.XDP_DEVICE_SIZE)
    entries = {struct.pack("=I", slot): nothing for slot in range(XDP_DEVICES)}
    for ifindex, (mac, domain) in reversed(list(wanted.items())):
        value = layout.XdpDevice(ifindex, mac, domain).pack()
        entries[struct.pack("=I", ifindex % XDP_DEVICES)] = value
    return entries


def foreign_entry(ifindex: int) -> dict[bytes, bytes]:
    """The entry of a device whose pod may send from any address."""
    return {struct.pack("=I", ifindex): struct.pack("=I", 1)}
