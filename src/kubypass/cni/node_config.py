# SPDX-License-Identifier: Apache-2.0
"""What pods' links and addresses need from their node, and what is wrong where that is not enough. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from kubypass.cni.addresses import capacity, next_address
from kubypass.model.address import Address
from kubypass.model.cidr import Cidr


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """The part of a node that its pods' links depend on."""

    name: str
    pod_cidrs: tuple[Cidr, ...]
    """The pod networks of enabled families. A pod gets one address of each family."""
    sources: Mapping[int, Address]
    """The addresses by family that the node sends from to its pods."""
    mtu: int

    def in_family(self, version: int) -> list[Cidr]:
        """The pod networks of one family."""
        return [cidr for cidr in self.pod_cidrs if cidr.family == version]


def without_networks(node: NodeConfig) -> tuple[str, str]:
    """A message and a hint: what is wrong, and what to do."""
    return (
        f"Node {node.name} has no spec.podCIDRs of a family that is switched on: its pods get no address",
        "start kube-controller-manager with --allocate-node-cidrs and --cluster-cidr",
    )


def pool(cidr: Cidr, used: Iterable[Address]) -> dict[str, object]:
    """Counts how much of a network is in use."""
    count = sum(cidr.contains(address) for address in used)
    return {"cidr": str(cidr), "used": count, "capacity": capacity(cidr)}


def exhausted(cidrs: Iterable[Cidr], used: Collection[Address]) -> tuple[str, str]:
    """A message and a hint: what is wrong, and what to do."""
    full = [
        "{cidr}: {used} of {capacity} addresses are used".format(**pool(cidr, used))
        for cidr in cidrs
    ]
    hint = "delete pods, or give nodes larger networks (--node-cidr-mask-size) and create this Node again"
    return f"no address is free in {', '.join(full)}", hint


def shortage(node: NodeConfig, used: Collection[Address]) -> tuple[str, str] | None:
    """Says why the next pod would get no address; None where it would get one."""
    if not node.pod_cidrs:
        return without_networks(node)
    for version in (4, 6):
        cidrs = node.in_family(version)
        if cidrs and not any(next_address(cidr, used) for cidr in cidrs):
            return exhausted(cidrs, used)
    return None


def outside(node: NodeConfig, addresses: Iterable[Address]) -> list[Address]:
    """Returns the addresses in none of the node's networks: the networks have changed since."""
    return [a for a in addresses if not any(cidr.contains(a) for cidr in node.pod_cidrs)]
