# SPDX-License-Identifier: Apache-2.0
"""Random scenarios: a small cluster as Kubernetes objects, changes of it, and packets in between."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from tests.packet.lab import V4, V6
from tests.packet.pipeline import NODE
from tests.packet.play import Step
from tests.packet.reference import Cluster, Node
from tests.packet.variants import PLACE, SETTINGS, node

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
CLIENT_PORTS = (40000, 40001, 40002, 40003, 800)
TCP_FLAGS = ("S", "S", "A", "A", "FA", "R")


@dataclass
class Writer:
    """Makes the steps of one scenario."""

    dice: random.Random
    node: Node
    steps: list[Step] = field(default_factory=list)
    cluster: Cluster = field(init=False)
    _stale: bool = False

    def __post_init__(self) -> None:
        self.cluster = Cluster(self.node)

    def write(self, length: int) -> list[Step]:
        """Objects first, then packets and changes."""
        self._put_node()
        for number in range(self.dice.randrange(1, 5)):
            self._put_service(number)
        while len(self.steps) < length:
            self._one_more()
        return self.steps

    def _one_more(self) -> None:
        draw = self.dice.random()
        if draw < 0.62:
            self._packet()
        elif draw < 0.73:
            self.steps.append(("again", self.dice.randrange(50), self.dice.choice(TCP_FLAGS)))
        elif draw < 0.83:
            self.steps.append(("reply", self.dice.randrange(50), self.dice.choice(["A", "R", "A"])))
        elif draw < 0.955:
            self._change()
        elif draw < 0.98:
            self.steps.append(("age", self.dice.choice([30, 60, 120])))
        else:
            self.steps.append((self.dice.choice(["forget", "restart"]),))

    def _put(self, name: str, item: dict[str, Any]) -> None:
        self.cluster.objects[name], self._stale = item, True
        self.steps.append(("put", name, item))

    def _delete(self, name: str) -> None:
        if self.cluster.objects.pop(name, None):
            self._stale = True
            self.steps.append(("delete", name))

    def _chance(self, probability: float) -> bool:
        return self.dice.random() < probability

    def _change(self) -> None:
        draw, number = self.dice.random(), self.dice.randrange(5)
        if draw < 0.3:
            self._put_service(number, slices=self._chance(0.3))
        elif draw < 0.85:
            self._put_slices(number)
        elif draw < 0.93:
            self._put_node()
        else:
            self._delete(f"service{number}")

    def _put_node(self) -> None:
        labels = {"topology.kubernetes.io/zone": self.dice.choice(["a", "b"])}
        metadata: dict[str, Any] = {"name": NODE}
        if self._chance(0.8):
            metadata["labels"] = labels
        self._put("node", {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {}})

    def _put_service(self, number: int, *, slices: bool = True) -> None:
        dice = self.dice
        name, namespace = f"web{number % 4}", "default" if number < 4 else "other"
        metadata: dict[str, Any] = {"name": name, "namespace": namespace}
        if self._chance(0.8):
            metadata["creationTimestamp"] = f"2024-01-0{dice.randrange(1, 9)}T00:00:00Z"
        if self._chance(0.04):
            label = dice.choice(["service-proxy-name", "headless"])
            metadata["labels"] = {f"service.kubernetes.io/{label}": dice.choice(["", "other"])}
        spec: dict[str, Any] = {"ports": self._ports(number)}
        spec["type"] = dice.choice(["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer"])
        self._set_addresses(spec, number)
        self._set_policies(spec)
        item: dict[str, Any] = {"apiVersion": "v1", "kind": "Service"}
        item |= {"metadata": metadata, "spec": spec}
        if self._chance(0.6):
            item["status"] = {"loadBalancer": {"ingress": self._ingress()}}
        self._put(f"service{number}", item)
        if slices:
            self._put_slices(number)

    def _ports(self, number: int) -> list[dict[str, Any]]:
        dice, ports = self.dice, []
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

    def _put_slices(self, number: int) -> None:
        for family in (4, 6):
            for index in range(2):
                name = f"slice{number}-{family}-{index}"
                if self._chance(0.15) or (index and self._chance(0.5)):
                    self._delete(name)
                else:
                    self._put(name, self._slice(number, family, index))

    def _slice(self, number: int, family: int, index: int) -> dict[str, Any]:
        dice = self.dice
        metadata: dict[str, Any] = {
            "name": f"slice{number}-{family}-{index}",
            "namespace": "default" if number < 4 else "other",
            "labels": {"kubernetes.io/service-name": f"web{number % 4}"},
        }
        if self._chance(0.03):
            metadata["labels"]["service.kubernetes.io/headless"] = ""
        kind = f"IPv{family}"
        addresses = [*PLACE.pods, V4.node, V6.node, V4.other_node, V6.other_node]
        addresses = [a for a in addresses if (":" in a) == (family == 6)] + list(REMOTE[family])
        chosen = dice.sample(addresses, dice.choice([1, 2, 2, 3, 3, 4]))
        mood = dice.choice(["ready", "ready", "mixed", "ending"])
        hints = dice.choice(["none", "none", "zones", "nodes", "some"])
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata,
            "addressType": kind if self._chance(0.97) else "FQDN",
            "ports": self._slice_ports(number),
            "endpoints": [self._endpoint(a, mood, hints) for a in chosen],
        }

    def _slice_ports(self, number: int) -> list[dict[str, Any]]:
        service = self.cluster.objects.get(f"service{number}")
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
        here = address in PLACE.pods + PLACE.primary
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

    def _packet(self) -> None:
        dice = self.dice
        if self._stale:
            self._stale = False
            self.cluster.derive()
        family = dice.choice([4, 6])
        hook = dice.choice(["from_pod", "from_pod", "from_uplink", "from_uplink", "to_uplink"])
        source = self._source(hook, family)
        place = self._destination(hook, family)
        if place is None:
            return
        destination, port, protocol = place
        if destination == source:
            return
        flags = "A" if self._chance(0.1) else "S"
        self.steps.append(
            ("packet", hook, source, dice.choice(CLIENT_PORTS), destination, port, protocol, flags)
        )

    def _source(self, hook: str, family: int) -> str:
        pods = [a for a in PLACE.pods if (":" in a) == (family == 6)]
        who = V4 if family == 4 else V6
        if hook == "from_pod":
            return self.dice.choice(pods)
        if hook == "to_uplink":
            return self.dice.choice(
                [who.node, *(a for a in PLACE.others if (":" in a) == (family == 6))]
            )
        return self.dice.choice(
            [*OUTSIDE[family], *OUTSIDE[family], *REMOTE[family], who.other_node]
        )

    def _destination(self, hook: str, family: int) -> tuple[str, int, str] | None:
        dice, draw = self.dice, self.dice.random()
        served = [
            place
            for place in self.cluster.frontends
            if ((":" in place[0]) == (family == 6) and place[0][:4] != "node")
            or place[0] == f"node{family}"
        ]
        if hook == "from_uplink" and not self.node.external_cluster_ip and self._chance(0.8):
            served = [p for p in served if self.cluster.frontends[p][0] != "cluster"]
        protocol = dice.choice(["TCP", "TCP", "UDP", "SCTP", "ICMP"])
        who = V4 if family == 4 else V6
        nodes = [a for a in PLACE.primary + PLACE.others if (":" in a) == (family == 6)]
        if draw < 0.85 and served:
            address, port, of = dice.choice(served)
            if address.startswith("node"):
                address = dice.choice([*nodes, *nodes, who.other_node])
                if hook == "to_uplink":
                    address = who.other_node
            if self._chance(0.06):
                port += 7
            return address, port, of if self._chance(0.96) else protocol
        if draw < 0.9:
            address = NUMBERS["service"][family].format(40 + dice.randrange(8))
            return address, dice.choice([80, 443, 53, 9999]), protocol
        if draw < 0.95:
            address = dice.choice(EXTERNAL[family] + BALANCER[family])
            return address, dice.choice([80, 443, 53, 9999]), protocol
        pods = [a for a in PLACE.pods if (":" in a) == (family == 6)]
        if hook == "to_uplink":
            pods = list(REMOTE[family])
        elif hook == "from_uplink":
            return dice.choice(pods + nodes), 8080, dice.choice(["TCP", "UDP", "SCTP", "ICMP"])
        return (
            dice.choice([*pods, *REMOTE[family]]),
            8080,
            dice.choice(["TCP", "UDP", "SCTP", "ICMP"]),
        )


def write(seed: str, length: int) -> tuple[str, list[Step]]:
    """A scenario: which settings, and the steps."""
    dice = random.Random(seed)
    name = dice.choice(list(SETTINGS))
    return name, Writer(dice, node(name)).write(length)
