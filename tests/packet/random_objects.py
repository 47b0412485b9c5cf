# SPDX-License-Identifier: Apache-2.0
"""Random Services, EndpointSlices and nodes, out of few names, addresses and ports, so that they meet."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.packet.packets import V4, V6
from tests.packet.pipeline import NODE
from tests.packet.variants import NODE_ADDRESSES

REMOTE = {
    4: tuple(f"10.233.65.{number}" for number in range(20, 24)),
    6: tuple(f"fd00:10:233:65::{number}" for number in range(20, 24)),
}
OUTSIDE = {4: (V4.client, "198.18.0.7"), 6: (V6.client, "2001:db8:7::7")}
EXTERNAL = {4: ("198.51.100.1", "198.51.100.2"), 6: ("2001:db8:e::1", "2001:db8:e::2")}
BALANCER = {4: ("203.0.113.200", "203.0.113.201"), 6: ("2001:db8:f::1", "2001:db8:f::2")}
RANGES = {
    4: ("203.0.113.0/24", " 198.18.0.7/32", "10.233.64.0/18", "192.168.1.31/32", "0.0.0.0/0"),
    6: ("2001:db8:cafe::/48", "2001:db8:7::7/128 ", "fd00:10:233::/48", "fd00:c0a8:1::/64"),
}
NUMBERS = {
    "service": {4: "10.233.30.{}", 6: "fd00:10:233::{}"},
    "service, sloppy": {4: "010.233.030.0{}", 6: "fd00:10:233:0::{}"},
}


@dataclass
class RandomObjects:
    """Makes objects; which ones depends on the dice alone."""

    dice: random.Random

    def _chance(self, probability: float) -> bool:
        return self.dice.random() < probability

    def node(self) -> dict[str, Any]:
        """The node itself, in one zone or the other."""
        labels = {"topology.kubernetes.io/zone": self.dice.choice(["a", "b"])}
        metadata: dict[str, Any] = {"name": NODE}
        if self._chance(0.8):
            metadata["labels"] = labels
        return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {}}

    def service(self, number: int) -> dict[str, Any]:
        """One of a few Services, of any type and with any policies."""
        dice = self.dice
        name, namespace = f"web{number % 4}", "default" if number < 4 else "other"
        metadata: dict[str, Any] = {"name": name, "namespace": namespace}
        if self._chance(0.8):
            metadata["creationTimestamp"] = f"2024-01-0{dice.randrange(1, 9)}T00:00:00Z"
        if self._chance(0.04):
            label = dice.choice(["service-proxy-name", "headless"])
            metadata["labels"] = {f"service.kubernetes.io/{label}": dice.choice(["", "other"])}
        if self._chance(0.3):
            word = dice.choice(["random", "maglev"])
            metadata["annotations"] = {"service.cilium.io/lb-algorithm": word}
        if self._chance(0.2):
            word = dice.choice(["snat", "snat", "dsr"])
            metadata.setdefault("annotations", {})["service.cilium.io/forwarding-mode"] = word
        spec: dict[str, Any] = {"ports": self._ports(number)}
        spec["type"] = dice.choice(["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer"])
        self._set_addresses(spec, number)
        self._set_policies(spec)
        item: dict[str, Any] = {"apiVersion": "v1", "kind": "Service"}
        item |= {"metadata": metadata, "spec": spec}
        if self._chance(0.6):
            item["status"] = {"loadBalancer": {"ingress": self._ingress()}}
        return item

    def _ports(self, number: int) -> list[dict[str, Any]]:
        dice = self.dice
        ports: list[dict[str, Any]] = []
        many = dice.choice([1, 1, 2, 3])
        for index in range(many):
            protocol = dice.choice(["TCP", "TCP", "UDP", "UDP", "SCTP"])
            port: dict[str, Any] = {"port": dice.choice([80, 443, 53])}
            if any(
                (p["port"], p.get("protocol", "TCP")) == (port["port"], protocol) for p in ports
            ):
                port["port"] += 1000 + index
            if protocol != "TCP" or self._chance(0.7):
                port["protocol"] = protocol
            if many > 1:
                port["name"] = "abc"[index]
            if self._chance(0.6):
                port["nodePort"] = 30000 + number + 10 * index
                if self._chance(0.1):
                    port["nodePort"] = 30000
            ports.append(port)
        return ports

    def _set_addresses(self, spec: dict[str, Any], number: int) -> None:
        dice = self.dice
        form = NUMBERS[dice.choice(["service"] * 5 + ["service, sloppy"])]
        pair = [form[4].format(40 + number), form[6].format(40 + number)]
        families = dice.choice([["IPv4", "IPv6"], ["IPv6", "IPv4"], ["IPv4"], ["IPv6"], []])
        wanted = [pair[family == "IPv6"] for family in families] or [dice.choice(pair)]
        spec |= {"clusterIP": wanted[0], "clusterIPs": wanted}
        if families:
            spec["ipFamilies"] = families
        draw = dice.random()
        if draw < 0.03:
            spec |= {"clusterIP": "None", "clusterIPs": ["None"]}
        elif draw < 0.06:
            spec["type"] = "ExternalName"
        if self._chance(0.5):
            spec["externalIPs"] = [
                dice.choice(EXTERNAL[family]) for family in (4, 6) if self._chance(0.7)
            ]

    def _set_policies(self, spec: dict[str, Any]) -> None:
        dice = self.dice
        if self._chance(0.8):
            spec["externalTrafficPolicy"] = dice.choice(["Cluster", "Local"])
            spec["internalTrafficPolicy"] = dice.choice(["Cluster", "Cluster", "Local"])
        if self._chance(0.4):
            spec["sessionAffinity"] = "ClientIP"
            if self._chance(0.8):
                seconds = dice.choice([60, 120, 240])
                spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": seconds}}
        if self._chance(0.35):
            every = RANGES[4] + RANGES[6]
            spec["loadBalancerSourceRanges"] = dice.sample(every, dice.randrange(1, 4))

    def _ingress(self) -> list[dict[str, str]]:
        dice, entries = self.dice, []
        for _ in range(dice.randrange(1, 4)):
            entry = {"ip": dice.choice(BALANCER[4] + BALANCER[6])}
            if self._chance(0.3):
                entry["ipMode"] = dice.choice(["VIP", "Proxy"])
            if self._chance(0.1):
                entry = {"hostname": "balancer.example"}
            entries.append(entry)
        return entries

    def slice(
        self, number: int, family: int, index: int, service: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """One of the slices of a Service, which may not be there."""
        dice = self.dice
        metadata: dict[str, Any] = {
            "name": f"slice{number}-{family}-{index}",
            "namespace": "default" if number < 4 else "other",
            "labels": {"kubernetes.io/service-name": f"web{number % 4}"},
        }
        if self._chance(0.03):
            metadata["labels"]["service.kubernetes.io/headless"] = ""
        if self._chance(0.3):
            metadata["annotations"] = {"service.cilium.io/weight": dice.choice(["0", "2", "7"])}
        kind = f"IPv{family}"
        addresses = [*NODE_ADDRESSES.pods, V4.node, V6.node, V4.other_node, V6.other_node]
        addresses = [a for a in addresses if (":" in a) == (family == 6)] + list(REMOTE[family])
        chosen = dice.sample(addresses, dice.choice([1, 2, 2, 3, 3, 4]))
        mood = dice.choice(["ready", "ready", "mixed", "ending"])
        hints = dice.choice(["none", "none", "zones", "nodes", "some"])
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata,
            "addressType": kind if self._chance(0.97) else "FQDN",
            "ports": self._slice_ports(service),
            "endpoints": [self._endpoint(a, mood, hints) for a in chosen],
        }

    def _slice_ports(self, service: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        ports = []
        for port in service["spec"]["ports"] if service else [{"port": 80}]:
            made: dict[str, Any] = {"port": self.dice.choice([8080, 8080, 8081])}
            if self._chance(0.95):
                made["name"] = port.get("name", "")
            if "protocol" in port:
                made["protocol"] = port["protocol"]
            if self._chance(0.95):
                ports.append(made)
        return ports

    def _endpoint(self, address: str, mood: str, hints: str) -> dict[str, Any]:
        dice = self.dice
        here = address in NODE_ADDRESSES.pods + NODE_ADDRESSES.primary
        made: dict[str, Any] = {"addresses": [address]}
        if self._chance(0.95):
            made["nodeName"] = NODE if here else dice.choice(["node2", "node3"])
        choices = {
            "ready": [{}, {"ready": True}],
            "mixed": [
                {"ready": True},
                {"ready": False},
                {"ready": False, "serving": False},
                {"ready": False, "serving": True, "terminating": True},
                {"ready": True, "terminating": True},
            ],
            "ending": [
                {"ready": False, "serving": True, "terminating": True},
                {"ready": False, "serving": False, "terminating": True},
                {"ready": False, "terminating": True},
            ],
        }
        if said := dice.choice(choices[mood]):
            made["conditions"] = said
        if hints in {"zones", "nodes"} or (hints == "some" and self._chance(0.5)):
            made["hints"] = self._hints(hints)
        return made

    def _hints(self, hints: str) -> dict[str, Any]:
        zones = {"forZones": [{"name": self.dice.choice("aab")}]}
        if hints == "zones":
            return zones
        return zones | {"forNodes": [{"name": self.dice.choice([NODE, "node2"])}]}
