# SPDX-License-Identifier: Apache-2.0
"""Random scenarios: a small cluster as Kubernetes objects, changes of it, and packets in between."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from tests.packet.packets import V4, V6
from tests.packet.play import Step
from tests.packet.random_objects import BALANCER, EXTERNAL, NUMBERS, OUTSIDE, REMOTE, RandomObjects
from tests.packet.reference import Cluster, Node
from tests.packet.variants import NODE_ADDRESSES, SETTINGS, node

CLIENT_PORTS = (40000, 40001, 40002, 40003, 800)
TCP_FLAGS = ("S", "S", "A", "A", "FA", "R")


@dataclass
class Writer:
    """Makes the steps of one scenario."""

    dice: random.Random
    node: Node
    steps: list[Step] = field(default_factory=list)
    cluster: Cluster = field(init=False)
    objects: RandomObjects = field(init=False)
    _stale: bool = False

    def __post_init__(self) -> None:
        self.cluster = Cluster(self.node)
        self.objects = RandomObjects(self.dice)

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
        self._put("node", self.objects.node())

    def _put_service(self, number: int, *, slices: bool = True) -> None:
        self._put(f"service{number}", self.objects.service(number))
        if slices:
            self._put_slices(number)

    def _put_slices(self, number: int) -> None:
        for family in (4, 6):
            for index in range(2):
                name = f"slice{number}-{family}-{index}"
                if self._chance(0.15) or (index and self._chance(0.5)):
                    self._delete(name)
                else:
                    service = self.cluster.objects.get(f"service{number}")
                    self._put(name, self.objects.slice(number, family, index, service))

    def _packet(self) -> None:
        dice = self.dice
        if self._stale:
            self._stale = False
            self.cluster.derive()
        family = dice.choice([4, 6])
        hook = dice.choice(["from_pod", "from_pod", "from_uplink", "from_uplink", "to_uplink"])
        source = self._source(hook, family)
        frontend = self._destination(hook, family)
        if frontend is None:
            return
        destination, port, protocol = frontend
        if destination == source:
            return
        flags = "A" if self._chance(0.1) else "S"
        self.steps.append(
            ("packet", hook, source, dice.choice(CLIENT_PORTS), destination, port, protocol, flags)
        )

    def _source(self, hook: str, family: int) -> str:
        pods = [a for a in NODE_ADDRESSES.pods if (":" in a) == (family == 6)]
        who = V4 if family == 4 else V6
        if hook == "from_pod":
            return self.dice.choice(pods)
        if hook == "to_uplink":
            return self.dice.choice(
                [who.node, *(a for a in NODE_ADDRESSES.others if (":" in a) == (family == 6))]
            )
        return self.dice.choice(
            [*OUTSIDE[family], *OUTSIDE[family], *REMOTE[family], who.other_node]
        )

    def _destination(self, hook: str, family: int) -> tuple[str, int, str] | None:
        dice, draw = self.dice, self.dice.random()
        served = [
            frontend
            for frontend in self.cluster.frontends
            if ((":" in frontend[0]) == (family == 6) and frontend[0][:4] != "node")
            or frontend[0] == f"node{family}"
        ]
        if hook == "from_uplink" and not self.node.external_cluster_ip and self._chance(0.8):
            served = [p for p in served if self.cluster.frontends[p][0] != "cluster"]
        protocol = dice.choice(["TCP", "TCP", "UDP", "SCTP", "ICMP"])
        who = V4 if family == 4 else V6
        nodes = [
            a for a in NODE_ADDRESSES.primary + NODE_ADDRESSES.others if (":" in a) == (family == 6)
        ]
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
        pods = [a for a in NODE_ADDRESSES.pods if (":" in a) == (family == 6)]
        if hook == "to_uplink":
            pods = list(REMOTE[family])
        elif hook == "from_uplink":
            return dice.choice(pods + nodes), 8080, dice.choice(["TCP", "UDP", "SCTP", "ICMP"])
        return (
            dice.choice([*pods, *REMOTE[family], *OUTSIDE[family], *OUTSIDE[family]]),
            8080,
            dice.choice(["TCP", "UDP", "SCTP", "ICMP"]),
        )


def write(seed: str, length: int) -> tuple[str, list[Step]]:
    """A scenario: which settings, and the steps."""
    dice = random.Random(seed)
    name = dice.choice(list(SETTINGS))
    return name, Writer(dice, node(name)).write(length)
