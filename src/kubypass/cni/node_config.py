# SPDX-License-Identifier: Apache-2.0
"""What of the node its pods' network goes by, and what is wrong where there is not enough of it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from kubypass.cni.addresses import capacity, next_address
from kubypass.model.address import Address
from kubypass.model.cidr import Cidr


@dataclass(frozen=True, slots=True)
class Facts:
    """The node, as far as pods' links depend on it."""

    node: str
    pod_cidrs: tuple[Cidr, ...]
    """Those of families that are switched on; a pod gets an address of each family."""
    sources: Mapping[int, Address]
    """The node's own addresses by family: what it sends to pods from."""
    mtu: int

    def in_family(self, version: int) -> list[Cidr]:
        """The networks of a family."""
        return [cidr for cidr in self.pod_cidrs if cidr.family == version]


def without_networks(facts: Facts) -> tuple[str, str]:
    """What is wrong, and what to do."""
    return (
        f"Node {facts.node} has no spec.podCIDRs of a family that is switched on: its pods get no address",
        "start kube-controller-manager with --allocate-node-cidrs and --cluster-cidr",
    )


def pool(cidr: Cidr, used: Iterable[Address]) -> dict[str, object]:
    """How much of a network is in use."""
    count = sum(cidr.contains(address) for address in used)
    return {"cidr": str(cidr), "used": count, "capacity": capacity(cidr)}


def exhausted(cidrs: Iterable[Cidr], used: Collection[Address]) -> tuple[str, str]:
    """What is wrong, and what to do."""
    full = [
        "{cidr}: {used} of {capacity} addresses are used".format(**pool(cidr, used))
        for cidr in cidrs
    ]
    hint = (
        "delete pods, or give nodes larger networks (--node-cidr-mask-size) and make this Node anew"
    )
    return f"no address is free in {', '.join(full)}", hint


def shortage(facts: Facts, used: Collection[Address]) -> tuple[str, str] | None:
    """Why the next pod would get no address; None where it would."""
    if not facts.pod_cidrs:
        return without_networks(facts)
    for version in (4, 6):
        cidrs = facts.in_family(version)
        if cidrs and not any(next_address(cidr, used) for cidr in cidrs):
            return exhausted(cidrs, used)
    return None


def outside(facts: Facts, addresses: Iterable[Address]) -> list[Address]:
    """Addresses that are in none of the node's networks: these were others when they were given."""
    return [a for a in addresses if not any(cidr.contains(a) for cidr in facts.pod_cidrs)]
