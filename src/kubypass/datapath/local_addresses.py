# SPDX-License-Identifier: Apache-2.0
"""The content of `endpoints`: addresses that live on this node, pods' and its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from kubypass.datapath import layout
from kubypass.model.address import Address
from kubypass.model.pod import Pod
from kubypass.model.verdict import EndpointKind

_NO_MAC = bytes(6)
NETNS_UNKNOWN = 0x7FFFFFFF
"""As in bpf/kubypass.h."""


def node_entries(
    addresses: Iterable[Address], with_node_ports: Collection[Address]
) -> dict[bytes, bytes]:
    """Map entries of the node's own addresses; NodePorts answer on some of them."""
    return {
        address: layout.Endpoint(
            0,
            _NO_MAC,
            _NO_MAC,
            EndpointKind.NODE_PORTS if address in with_node_ports else EndpointKind.NODE,
            NETNS_UNKNOWN,
        ).pack()
        for address in addresses
    }


def pod_entries(pod: Pod, ifindex: int, host_mac: bytes, netns: int) -> dict[bytes, bytes]:
    """Map entries of one pod; `ifindex` and `host_mac` are of the veth on the node, `netns` of its other end."""
    mac = bytes.fromhex(pod.mac.replace(":", ""))
    value = layout.Endpoint(ifindex, mac, host_mac, EndpointKind.POD, netns).pack()
    return dict.fromkeys(pod.addresses, value)
