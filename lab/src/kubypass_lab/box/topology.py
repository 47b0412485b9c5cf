# SPDX-License-Identifier: Apache-2.0
"""Plans a box's addresses from a KubeKey file. Pure.

The nodes share the subnet of the hosts' internal addresses. The fabric is its gateway, and routes to the client and,
for each node's pod CIDRs, to that node: routing is native, and nodes have no routes to each other.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from kubypass.errors import ConfigError
from kubypass_lab.box.kubekey import Host, IPAddress, IPNetwork, KubeKey

IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

CLIENT_ADDRESSES = ("203.0.113.9/24", "2001:db8:cafe::9/64")
CLIENT_GATEWAYS = ("203.0.113.1/24", "2001:db8:cafe::1/64")
NODE_V6_PREFIX = ipaddress.IPv6Network("fd00:c0a8:1::/64")
SECOND_HOST = "node2"
ZONE_LABEL = "topology.kubernetes.io/zone"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """One node with its names, its addresses (with the subnet's prefix length) and its pod CIDRs."""

    name: str
    alias: str  # node1, node2, … in the order of the file
    addresses: tuple[IPInterface, ...]
    pod_cidrs: tuple[IPNetwork, ...]
    labels: tuple[tuple[str, str], ...] = ()  # labels of the Node object when the box is made

    def address(self, version: int) -> IPAddress | None:
        """The node's address of an IP version."""
        return next((each.ip for each in self.addresses if each.version == version), None)


@dataclass(frozen=True, slots=True)
class Topology:
    """All addresses of a box."""

    nodes: tuple[PlannedNode, ...]
    gateways: tuple[IPInterface, ...]  # the fabric's addresses in the nodes' subnet
    pod_cidrs: tuple[IPNetwork, ...]
    service_cidrs: tuple[IPNetwork, ...]

    @property
    def families(self) -> tuple[int, ...]:
        """The IP versions of pods and services, in the order of kubePodsCIDR."""
        return tuple(cidr.version for cidr in self.pod_cidrs)

    @property
    def gateway(self) -> IPAddress:
        """The fabric's address in the services' first family, in which Kubernetes expects its API server."""
        first = self.service_cidrs[0].version
        return next(each.ip for each in self.gateways if each.version == first)

    def node(self, name: str) -> PlannedNode:
        """The node with this name or alias; KeyError if there is none."""
        for field in ("name", "alias"):
            for node in self.nodes:
                if getattr(node, field) == name:
                    return node
        raise KeyError(name)


def plan_topology(kubekey: KubeKey) -> Topology:
    """Give every node its addresses and pod CIDRs. ConfigError: they do not fit together."""
    hosts = _with_addresses(_with_second_host(kubekey.hosts), kubekey)
    subnets = _subnets(hosts)
    for cidr in (*kubekey.pod_cidrs, *kubekey.service_cidrs):
        for subnet in subnets.values():
            if cidr.version == subnet.version and cidr.overlaps(subnet):
                raise ConfigError(
                    f"{cidr} overlaps the nodes' subnet {subnet}", "choose another CIDR"
                )
    slices = [_slices(cidr, len(hosts)) for cidr in kubekey.pod_cidrs]
    nodes = tuple(
        PlannedNode(
            host.name,
            f"node{index + 1}",
            tuple(_interface(address, subnets) for address in host.addresses),
            tuple(each[index] for each in slices),
            _labels(host, index),
        )
        for index, host in enumerate(hosts)
    )
    taken = {address for host in hosts for address in host.addresses}
    gateways = tuple(_gateway(subnet, taken) for subnet in subnets.values())
    return Topology(nodes, gateways, kubekey.pod_cidrs, kubekey.service_cidrs)


def describe_topology(topology: Topology) -> dict[str, object]:
    """The topology as JSON values."""
    return {
        "nodes": [
            {
                "name": node.name,
                "alias": node.alias,
                "addresses": [str(each) for each in node.addresses],
                "podCIDRs": [str(each) for each in node.pod_cidrs],
                "labels": dict(node.labels),
            }
            for node in topology.nodes
        ],
        "gateways": [str(each) for each in topology.gateways],
        "podCIDRs": [str(each) for each in topology.pod_cidrs],
        "serviceCIDRs": [str(each) for each in topology.service_cidrs],
    }


def parse_topology(description: dict[str, object]) -> Topology:
    """Inverse of `describe_topology`."""

    def networks(texts: object) -> tuple[IPNetwork, ...]:
        return tuple(ipaddress.ip_network(text) for text in _strings(texts))

    def interfaces(texts: object) -> tuple[IPInterface, ...]:
        return tuple(ipaddress.ip_interface(text) for text in _strings(texts))

    entries = description["nodes"]
    nodes = tuple(
        PlannedNode(
            str(entry["name"]),
            str(entry["alias"]),
            interfaces(entry["addresses"]),
            networks(entry["podCIDRs"]),
            tuple(dict(entry["labels"]).items()),
        )
        for entry in (entries if isinstance(entries, list) else [])
    )
    return Topology(
        nodes,
        interfaces(description["gateways"]),
        networks(description["podCIDRs"]),
        networks(description["serviceCIDRs"]),
    )


def _strings(values: object) -> list[str]:
    return [str(value) for value in values] if isinstance(values, list) else []


def _labels(host: Host, index: int) -> tuple[tuple[str, str], ...]:
    """The host's labels, and those of every node. Zones are zone-a, zone-b, … in the order of the file."""
    defaults = {"kubernetes.io/hostname": host.name, ZONE_LABEL: f"zone-{_LETTERS[index % 26]}"}
    return tuple({**defaults, **dict(host.labels)}.items())


def _with_second_host(hosts: tuple[Host, ...]) -> tuple[Host, ...]:
    if len(hosts) > 1:
        return hosts
    only = hosts[0]
    name = SECOND_HOST if only.name != SECOND_HOST else "node1"
    return (only, Host(name, tuple(address + 1 for address in only.addresses)))


def _with_addresses(hosts: tuple[Host, ...], kubekey: KubeKey) -> tuple[Host, ...]:
    """The hosts with an IPv6 address derived from the IPv4 address where the CIDRs need one."""
    versions = {cidr.version for cidr in kubekey.pod_cidrs}
    result = []
    for host in hosts:
        have = {address.version: address for address in host.addresses}
        if 4 in versions and 4 not in have:
            message = f"host {host.name} has no IPv4 address, but kubePodsCIDR has an IPv4 range"
            raise ConfigError(message, "add an IPv4 address to its internalAddress")
        if 6 in versions and 6 not in have:
            have[6] = _derived_v6(have[4], hosts)
        result.append(replace(host, addresses=tuple(have.values())))
    return tuple(result)


def _derived_v6(address: IPAddress, hosts: tuple[Host, ...]) -> IPAddress:
    """An address under fd00:c0a8:1::/64 with the bytes of `address` below the hosts' common subnet."""
    v4 = [each for host in hosts for each in host.addresses if each.version == 4]
    octets = str(address).split(".")[_common_prefix(v4) // 8 :]
    return ipaddress.IPv6Address(f"{NODE_V6_PREFIX.network_address}{':'.join(octets)}")


def _common_prefix(addresses: Sequence[IPAddress]) -> int:
    """The number of bits that the addresses share, at most 24 (IPv4) or 64 (IPv6)."""
    bits = addresses[0].max_prefixlen
    numbers = [int(address) for address in addresses]
    difference = 0
    for number in numbers:
        difference |= number ^ numbers[0]
    return min(bits - difference.bit_length(), 24 if bits == 32 else 64)


def _subnets(hosts: tuple[Host, ...]) -> dict[int, IPNetwork]:
    """The smallest common subnet that holds all hosts, by IP version."""
    subnets: dict[int, IPNetwork] = {}
    for version in (4, 6):
        addresses = [each for host in hosts for each in host.addresses if each.version == version]
        if addresses:
            prefix = _common_prefix(addresses)
            if prefix < 8:
                shown = ", ".join(map(str, addresses))
                message = (
                    f"the hosts' addresses {shown} have no subnet in common; a box has one segment"
                )
                raise ConfigError(message, "give the hosts internalAddresses of one network")
            subnets[version] = ipaddress.ip_network(f"{addresses[0]}/{prefix}", strict=False)
    return subnets


def _interface(address: IPAddress, subnets: dict[int, IPNetwork]) -> IPInterface:
    return ipaddress.ip_interface(f"{address}/{subnets[address.version].prefixlen}")


def _gateway(subnet: IPNetwork, taken: set[IPAddress]) -> IPInterface:
    first = subnet.network_address + 1
    for offset in range(len(taken) + 1):
        if first + offset not in taken:
            return ipaddress.ip_interface(f"{first + offset}/{subnet.prefixlen}")
    raise ConfigError(f"no address of {subnet} is free for the gateway")


def _slices(cidr: IPNetwork, count: int) -> list[IPNetwork]:
    """The first `count` pod CIDRs of nodes: /24 of IPv4, /64 or 1/256 of IPv6, or smaller if the range needs it."""
    usual = 24 if cidr.version == 4 else (64 if cidr.prefixlen <= 56 else cidr.prefixlen + 8)
    prefix = max(usual, cidr.prefixlen + (count - 1).bit_length())
    if prefix > cidr.max_prefixlen - 4:
        raise ConfigError(
            f"kubePodsCIDR {cidr} is too small for {count} nodes", "choose a larger range"
        )
    return list(islice(cidr.subnets(new_prefix=prefix), count))
