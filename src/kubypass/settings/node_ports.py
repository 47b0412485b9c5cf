# SPDX-License-Identifier: Apache-2.0
"""Settings of NodePorts: where they answer, and which ports they are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from kubypass.model.address import LOOPBACK, Address, family, is_loopback
from kubypass.settings.key import Kind, setting
from kubypass.settings.kinds import SWITCH
from kubypass.settings.node_port_addresses import NodePortAddresses, parse_node_port_addresses
from kubypass.settings.parse import parse_port_range


@dataclass(frozen=True, slots=True)
class NodePortSettings:
    """Where NodePorts answer, and which ports they are."""

    addresses: NodePortAddresses = setting(  # noqa: RUF009
        "nodeport-addresses", Kind('"primary", or networks with commas', parse_node_port_addresses),
        NodePortAddresses(), "",
        "The node's addresses on which NodePorts answer: the primary one of each family, or those in a "
        "network of their family (a family without a network has all). Unset: every address.",
    )  # fmt: skip
    on_loopback: bool = setting(
        "localhost-nodeports", SWITCH, True, "true",
        "NodePorts also answer the node itself on loopback addresses, unless nodeport-addresses leaves "
        "these out; kube-proxy's iptables-localhost-nodeports.",
    )  # fmt: skip
    port_range: tuple[int, int] = setting(
        "node-port-range", Kind("first,last", parse_port_range), (30000, 32767), "30000,32767",
        "Ports that the API server gives to NodePorts. NodePorts outside of the range are served too.",
    )  # fmt: skip
    bind_protection: bool = setting(
        "node-port-bind-protection", SWITCH, True, "true",
        "Processes of the node cannot listen on NodePorts.",
    )  # fmt: skip
    reserve_range: bool = setting(
        "enable-auto-protect-node-port-range", SWITCH, True, "true",
        "Where node-port-range overlaps the ephemeral ports, the kernel gives none of its ports to sockets "
        "(net.ipv4.ip_local_reserved_ports).",
    )  # fmt: skip

    def answer_on(self, address: Address, primary: Collection[Address]) -> bool:
        """Whether NodePorts answer on an address of the node, or of loopback; `primary` are the node's primary ones."""
        if not is_loopback(address):
            return self.addresses.selects(address, primary)
        return self.on_loopback and self.addresses.selects(LOOPBACK[family(address)], ())
