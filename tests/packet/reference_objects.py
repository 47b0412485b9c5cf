# SPDX-License-Identifier: Apache-2.0
"""What Services and EndpointSlices mean, said once more in plain Python: addresses, endpoints and their two lists.

Section numbers are those of the description of kube-proxy; this shares no code with `kubypass`. "Decision" marks a
choice that the description leaves open.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

ItemKey = tuple[str, str, str, str, int]
"""Namespace, service, port name, protocol, family."""
Backend = tuple[str, int]
LABELS = {"service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"}
DEFAULT_AFFINITY_S = 10800


@functools.cache
def canonical(address: str) -> str:
    """Leading zeros are decimal."""
    if ":" not in address:
        address = ".".join(str(int(part)) for part in address.split("."))
    return str(ipaddress.ip_address(address))


def version(address: str) -> int:
    return 6 if ":" in address else 4


@functools.cache
def within(address: str, network: str) -> bool:
    """Whether an address is in a network of its family."""
    host, _, bits = network.strip().partition("/")
    wide = ipaddress.ip_network(f"{canonical(host)}/{bits}", strict=False)
    return ipaddress.ip_address(address) in wide


@dataclass
class Endpoint:
    """One of an item's, after the merge of its slices (section 10)."""

    local: bool
    ready: bool
    serving: bool
    terminating: bool
    zones: frozenset[str]
    nodes: frozenset[str]
    weight: int = 1
    """Annotation of its slice; 0: it keeps its connections, and gets no new ones."""

    @property
    def ending(self) -> bool:
        """Serving while it terminates."""
        return not self.chosen and self.serving and self.terminating and self.weight > 0

    @property
    def chosen(self) -> bool:
        """Ready, and nobody has taken it out."""
        return self.ready and self.weight > 0

    @property
    def rank(self) -> tuple[bool, bool, bool]:
        """The duplicate with the highest rank counts. kube-proxy says so of `local` only; the others are a decision."""
        return self.local, self.chosen, self.serving and self.terminating


@dataclass
class Item:
    """One service port in one family."""

    key: ItemKey
    endpoints: dict[Backend, Endpoint] = field(default_factory=dict)
    affinity_s: int = 0
    direct: bool = False
    """Its external frontends are in DSR mode."""
    internal_local: bool = False
    external_local: bool = False
    source_ranges: tuple[str, ...] = ()
    maglev: bool = False

    @property
    def usable(self) -> bool:
        """Somewhere."""
        return any(one.chosen or one.ending for one in self.endpoints.values())

    def cluster_list(self, node: str, zone: str) -> set[Backend]:
        ready = {where: one for where, one in self.endpoints.items() if one.chosen}
        if not ready:
            return {where for where, one in self.endpoints.items() if one.ending}
        for mine, said in ((node, "nodes"), (zone, "zones")):
            hints = {where: getattr(one, said) for where, one in ready.items()}
            if mine and all(hints.values()):
                near = {where for where, names in hints.items() if mine in names}
                if near:
                    return near
        return set(ready)

    def local_list(self) -> set[Backend]:
        here = {where: one for where, one in self.endpoints.items() if one.local}
        ready = {where for where, one in here.items() if one.chosen}
        return ready or {where for where, one in here.items() if one.ending}


def cluster_ips(spec: Mapping[str, Any]) -> Iterator[str]:
    """Section 1: by ipFamilies where these are given, clusterIP otherwise."""
    if spec.get("clusterIP", "None") == "None":
        return
    if not spec.get("ipFamilies"):
        yield canonical(spec["clusterIP"])
        return
    for number, family in enumerate(spec["ipFamilies"]):
        if number < len(spec["clusterIPs"]):
            address = canonical(spec["clusterIPs"][number])
            assert version(address) == (4 if family == "IPv4" else 6)
            yield address


def endpoints(key: ItemKey, slices: list[Mapping[str, Any]], node: str) -> dict[Backend, Endpoint]:
    """Section 10, "Merge"."""
    namespace, service, name, protocol, family = key
    found: dict[Backend, Endpoint] = {}
    for one in slices:
        where = one["metadata"]
        if where["namespace"] != namespace or one["addressType"] != f"IPv{family}":
            continue
        if _labels(one).get("kubernetes.io/service-name") != service:
            continue
        for port in one["ports"]:
            if port.get("name") != name or not port.get("port"):
                continue
            if port.get("protocol", "TCP") != protocol:
                continue
            for endpoint in one["endpoints"]:
                address = canonical(endpoint["addresses"][0])
                if version(address) != family:
                    continue
                at, made = (address, port["port"]), _endpoint(endpoint, node, where)
                if at not in found or made.rank > found[at].rank:
                    found[at] = made
    return found


def _endpoint(source: Mapping[str, Any], node: str, of: Mapping[str, Any]) -> Endpoint:
    said, hints = source.get("conditions", {}), source.get("hints", {})
    return Endpoint(
        local=source.get("nodeName") == node,
        ready=said.get("ready") in {None, True},
        serving=said.get("serving") in {None, True},
        terminating=said.get("terminating") is True,
        zones=frozenset(zone["name"] for zone in hints.get("forZones", [])),
        nodes=frozenset(name["name"] for name in hints.get("forNodes", [])),
        weight=int(of.get("annotations", {}).get("service.cilium.io/weight", "1")),
    )


def _labels(item: Mapping[str, Any]) -> Mapping[str, str]:
    return item["metadata"].get("labels", {})


def _age(service: Mapping[str, Any]) -> tuple[str, str, str]:
    where = service["metadata"]
    return where.get("creationTimestamp", "without"), where["namespace"], where["name"]


def _is_vip(entry: Mapping[str, str]) -> bool:
    return entry.get("ipMode", "VIP") == "VIP"
