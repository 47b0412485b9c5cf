# SPDX-License-Identifier: Apache-2.0
"""The content of `endpoints`: addresses that live on this node, pods' and its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from kubypass.datapath import layout
from kubypass.kernel.bpf import Map
from kubypass.model.address import Address
from kubypass.model.pod import Pod
from kubypass.model.verdict import EndpointKind

_NO_MAC = bytes(6)


def node_endpoints(
    addresses: Iterable[Address], with_node_ports: Collection[Address]
) -> dict[bytes, bytes]:
    """Map entries of the node's own addresses; NodePorts answer on some of them."""
    return {
        address: layout.Endpoint(
            0,
            _NO_MAC,
            _NO_MAC,
            EndpointKind.NODE_PORTS if address in with_node_ports else EndpointKind.NODE,
        ).pack()
        for address in addresses
    }


def pod_endpoints(pod: Pod, ifindex: int, host_mac: bytes) -> dict[bytes, bytes]:
    """Map entries of one pod; `ifindex` and `host_mac` are of the veth's end on the node."""
    mac = bytes.fromhex(pod.mac.replace(":", ""))
    value = layout.Endpoint(ifindex, mac, host_mac, EndpointKind.POD).pack()
    return dict.fromkeys(pod.addresses, value)


class Endpoints:
    """The map, changed by differences only."""

    def __init__(self, target: Map) -> None:
        self._target = target
        self._content: dict[bytes, bytes] = dict(target.items())

    def apply(self, wanted: Mapping[bytes, bytes]) -> int:
        """Makes the map hold just `wanted`; returns how many entries were written."""
        changed = {key: value for key, value in wanted.items() if self._content.get(key) != value}
        gone = [key for key in self._content if key not in wanted]
        self._target.update_batch(b"".join(changed), b"".join(changed.values()), len(changed))
        self._target.delete_batch(b"".join(gone), len(gone))
        self._content = dict(wanted)
        return len(changed) + len(gone)
