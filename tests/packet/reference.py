# SPDX-License-Identifier: Apache-2.0
"""kube-proxy's behaviour, said once more in plain Python.

It says which frontends the objects make, and what a new connection to one of them may get. It was written from the
description of kube-proxy alone, and shares no code with `kubypass`.

Where that description leaves a choice, or the two back-ends differ, ours is marked "decision".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.packet.reference_objects import (
    DEFAULT_AFFINITY_S,
    LABELS,
    Backend,
    Item,
    ItemKey,
    _age,
    _is_vip,
    _labels,
    canonical,
    cluster_ips,
    endpoints,
    version,
    within,
)

Frontend = tuple[str, int, str]
"""Address (or "node" and the family), port and protocol."""


@dataclass(frozen=True)
class Node:
    """The node that is asked, and what it was told."""

    name: str
    primary: tuple[str, ...]
    others: tuple[str, ...]
    pods: tuple[str, ...]
    detect: str = "interface"
    """One of interface, none and networks."""
    networks: tuple[str, ...] = ()
    masquerade_all: bool = False
    external_cluster_ip: bool = False
    reject: bool = True
    service_networks: tuple[str, ...] = ()
    node_ports: bool = True
    external: bool = True
    """External addresses are served."""
    node_port_addresses: tuple[str, ...] | str = ()
    """Networks, or "primary"."""

    maglev_cells: int = 0
    """Services select by a table of so many cells, unless their annotation says random; 0: all select at random."""
    maglev_seed: bytes = b""

    peers: tuple[str, ...] = ()
    """Networks of other nodes, and of their pods, that take part in DSR; without one there is no DSR."""

    inside: tuple[str, ...] = ()
    """Networks that pods reach with their own addresses; a family without one is not masqueraded."""

    def is_peer(self, address: str) -> bool:
        """Another node's address, or that of a pod there."""
        return any(within(address, n) for n in self.peers if version(n) == version(address))

    def is_outside(self, address: str) -> bool:
        """Pods reach it with the node's address."""
        networks = [n for n in self.inside if version(n) == version(address)]
        here = address in self.pods + self.addresses
        return bool(networks) and not here and not any(within(address, n) for n in networks)

    @property
    def addresses(self) -> tuple[str, ...]:
        return self.primary + self.others

    def detects(self, family: int) -> bool:
        """Section 11: networks of the other family tell nothing."""
        if self.detect == "networks":
            return any(version(network) == family for network in self.networks)
        return self.detect != "none"

    def answers_node_ports(self, address: str) -> bool:
        """Section 3; decision: unset means every address."""
        if self.node_port_addresses == "primary":
            return address in self.primary
        networks = [n for n in self.node_port_addresses if version(n) == version(address)]
        return not networks or any(within(address, network) for network in networks)


@dataclass(frozen=True)
class Judgement:
    """What a new connection may get."""

    kind: str
    """backend, reject, none (there is no service), or the name of a drop."""
    item: ItemKey | None = None
    backends: frozenset[Backend] = frozenset()
    masquerade: bool = False
    """Whatever backend is chosen; a client that is its own backend in any case."""
    direct: bool = False
    """In DSR mode: the client is masqueraded where a backend elsewhere cannot answer it by itself."""


@dataclass
class Cluster:
    """Objects, and what they mean on one node."""

    node: Node
    objects: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    items: dict[ItemKey, Item] = field(default_factory=dict)
    frontends: dict[Frontend, tuple[str, ItemKey]] = field(default_factory=dict)
    """With its kind: cluster, external, balancer or node."""
    cluster_ips: set[str] = field(default_factory=set)
    """The set has those, too, that have lost all of their ports to other services."""
    zone: str = ""

    def derive(self) -> None:
        """Derives everything again from the objects. Who had a frontend keeps it while it still claims it."""
        self.items, self.cluster_ips = {}, set()
        claims: dict[Frontend, list[tuple[str, ItemKey]]] = {}
        of: dict[str, list[Mapping[str, Any]]] = {
            kind: [] for kind in ("Service", "EndpointSlice", "Node")
        }
        for item in self.objects.values():
            of[item["kind"]].append(item)
        own = [node for node in of["Node"] if node["metadata"]["name"] == self.node.name]
        self.zone = _labels(own[0]).get("topology.kubernetes.io/zone", "") if own else ""
        slices = [one for one in of["EndpointSlice"] if not LABELS & _labels(one).keys()]
        slices.sort(
            key=lambda one: one["metadata"]["name"]
        )  # decision: of equal duplicates the first
        # Decision: of two services that come at once with one frontend, the older has it, then the first by name.
        for service in sorted(of["Service"], key=_age):
            if not LABELS & _labels(service).keys():
                self._add_service(service, slices, claims)
        before = {frontend: key[:2] for frontend, (_, key) in self.frontends.items()}
        self.frontends = {
            frontend: next((one for one in some if one[1][:2] == before.get(frontend)), some[0])
            for frontend, some in claims.items()
        }

    def _add_service(
        self,
        service: Mapping[str, Any],
        slices: list[Mapping[str, Any]],
        claims: dict[Frontend, list[tuple[str, ItemKey]]],
    ) -> None:
        spec, where = service["spec"], service["metadata"]
        if spec.get("type") == "ExternalName":
            return
        ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress", [])
        vips = [entry["ip"] for entry in ingress if "ip" in entry and _is_vip(entry)]
        for cluster_ip in cluster_ips(spec):
            family = version(cluster_ip)
            self.cluster_ips.add(cluster_ip)
            for port in spec["ports"]:
                protocol, name = port.get("protocol", "TCP"), port.get("name", "")
                key = (where["namespace"], where["name"], name, protocol, family)
                item = self._item(key, spec, list(map(canonical, vips)))
                word = where.get("annotations", {}).get("service.cilium.io/lb-algorithm", "maglev")
                item.maglev = self.node.maglev_cells > 0 and word == "maglev"
                word = where.get("annotations", {}).get("service.cilium.io/forwarding-mode", "dsr")
                item.direct = word == "dsr" and protocol in {"TCP", "UDP"} and bool(self.node.peers)
                item.endpoints = endpoints(key, slices, self.node.name)
                self.items[key] = item
                addresses = [("cluster", cluster_ip)]
                if self.node.external:
                    addresses += [("external", canonical(a)) for a in spec.get("externalIPs", [])]
                    addresses += [("balancer", canonical(a)) for a in vips]
                for kind, address in addresses:
                    if version(address) == family:
                        claims.setdefault((address, port["port"], protocol), []).append((kind, key))
                if port.get("nodePort") and self.node.node_ports:
                    frontend = (f"node{family}", port["nodePort"], protocol)
                    claims.setdefault(frontend, []).append(("node", key))

    def _item(self, key: ItemKey, spec: Mapping[str, Any], vips: list[str]) -> Item:
        ranges = [r for r in spec.get("loadBalancerSourceRanges", []) if version(r) == key[4]]
        primary = [a for a in self.node.primary if version(a) == key[4]]
        if any(within(address, network) for address in primary for network in ranges):
            ranges += [f"{a}/{32 if key[4] == 4 else 128}" for a in vips if version(a) == key[4]]
        affinity = 0
        if spec.get("sessionAffinity") == "ClientIP":
            config = spec.get("sessionAffinityConfig", {}).get("clientIP", {})
            affinity = config.get("timeoutSeconds", DEFAULT_AFFINITY_S)
        return Item(
            key,
            affinity_s=affinity,
            internal_local=spec.get("internalTrafficPolicy") == "Local",
            external_local=spec.get("externalTrafficPolicy") == "Local",
            source_ranges=tuple(ranges),
        )

    def lookup(self, address: str, port: int, protocol: str) -> tuple[str, ItemKey] | None:
        """What a packet that was not sent by the node is for."""
        if address in self.node.pods:
            return None
        found = self.frontends.get((address, port, protocol))
        if found or address not in self.node.addresses:
            return found
        if not self.node.answers_node_ports(address):
            return None
        return self.frontends.get((f"node{version(address)}", port, protocol))

    def kinds(self, address: str) -> set[str]:
        """What an address is to services."""
        found = {kind for (one, _, _), (kind, _) in self.frontends.items() if one == address}
        return found | {"cluster"} if address in self.cluster_ips else found

    def client(self, hook: str, source: str) -> str:
        """Section 6; decision: who comes by the uplink is outside, whatever the address."""
        if hook == "to_uplink":
            return "node"
        if hook == "from_uplink" or not self.node.detects(version(source)):
            return "outside"
        if self.node.detect == "networks":
            inside = [n for n in self.node.networks if version(n) == version(source)]
            return "pod" if any(within(source, n) for n in inside) else "outside"
        return "pod"

    def judge(self, hook: str, source: str, found: tuple[str, ItemKey]) -> Judgement:
        """A new connection to a frontend (sections 0, 5 to 8, 11)."""
        kind, key = found
        item, client = self.items[key], self.client(hook, source)
        if kind == "cluster" and hook == "from_uplink" and not self.node.external_cluster_ip:
            return Judgement("DROP_EXTERNAL_CLUSTER_IP")
        ranges = item.source_ranges if kind == "balancer" else ()
        if ranges and not any(within(source, network) for network in ranges):
            return Judgement("DROP_SOURCE_RANGE")
        if not item.usable:
            return Judgement("reject" if self.node.reject else "DROP_NO_BACKEND")
        direct = False
        if kind == "cluster":
            local, told = item.internal_local, self.node.detects(version(source))
            masquerade = self.node.masquerade_all or (told and client != "pod")
        else:
            local = item.external_local and client == "outside"
            masquerade = client == "node" if item.external_local else True
            direct = item.direct and hook == "from_uplink" and not item.external_local
        chosen = item.local_list() if local else item.cluster_list(self.node.name, self.zone)
        if not chosen:
            return Judgement("DROP_NO_LOCAL_BACKEND")
        return Judgement("backend", key, frozenset(chosen), masquerade and not direct, direct)

    def judge_unserved(self, hook: str, address: str, *, ports: bool) -> Judgement:
        """Section 2, for packets to no service: ClusterIPs exist for their services only. `ports` are there."""
        kinds = self.kinds(address)
        if "cluster" in kinds:
            return Judgement("reject" if ports and self.node.reject else "DROP_NO_SERVICE")
        if kinds:
            # Decision: what the network has sent here is not sent back to it.
            return Judgement("DROP_LOOP" if hook == "from_uplink" else "none")
        reserved = [n for n in self.node.service_networks if version(n) == version(address)]
        if any(within(address, network) for network in reserved):
            return Judgement("DROP_NO_SERVICE")
        return Judgement("none")
