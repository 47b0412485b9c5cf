# SPDX-License-Identifier: Apache-2.0
"""Problems are Events on the objects that have them: each once an hour, few a minute, and one for all nodes."""

from types import MappingProxyType

from kubypass.agent.report.problem_events import ProblemEvents
from kubypass.agent.report.problem_groups import group_problems
from kubypass.kube.client.writer import Subject
from kubypass.kube.snapshot import Snapshot
from kubypass.model.node import Node
from kubypass.model.pod import PodMetadata
from kubypass.model.problem import Problem
from kubypass.model.service import Service

WEB = Service("default", "web", "ClusterIP", (), (), (), (), uid="web-uid")
POD = PodMetadata("kube-system", "dns-1", "pod-uid")


def node(name: str) -> Node:
    return Node(name, (), (), (), "", {})


class Cluster:
    """The Events of one node's problems."""

    def __init__(self, name: str = "node1", services: int = 0) -> None:
        many = [
            Service("default", f"s{n}", "ClusterIP", (), (), (), (), uid=f"uid{n}")
            for n in range(services)
        ]
        snapshot = Snapshot(
            {found.key: found for found in (WEB, *many)},
            {},
            MappingProxyType({"node1": node("node1"), "node2": node("node2")}),
            (),
            {},
            {("kube-system", "dns-1"): POD},
        )
        self.now = 36_000.0
        self.away = False
        self.written: list[tuple[Subject, str, str, str]] = []
        self._events = ProblemEvents(snapshot, name, self._announce, lambda: self.now)

    def _announce(self, subject: Subject, reason: str, message: str, name: str) -> bool:
        if not self.away:
            self.written.append((subject, reason, message, name))
        return not self.away

    def look(self, *problems: Problem) -> list[tuple[Subject, str, str]]:
        """What a look writes, without the names of the Events."""
        before = len(self.written)
        self._events.look(group_problems(problems))
        return [found[:3] for found in self.written[before:]]


def test_each_is_on_the_object_that_has_it() -> None:
    service = Problem("Service default/web (web.yaml)", "is wrong")
    port = Problem("Service default/web:http (TCP, IPv4)", "is not served")
    pod = Problem("Pod kube-system/dns-1", "has no room")
    other = Problem("Node node2", "has no address")
    setting = Problem("Setting mtu", "is too large")
    gone = Problem("Service default/gone", "was wrong")
    web, own = (
        Subject("Service", "default", "web", "web-uid"),
        Subject("Node", "", "node1", "node1"),
    )
    assert Cluster().look(service, port, pod, other) == [
        (web, "ServiceProblem", "is wrong"),
        (web, "ServiceProblem", "is not served"),
        (Subject("Pod", "kube-system", "dns-1", "pod-uid"), "PodProblem", "has no room"),
        (Subject("Node", "", "node2", "node2"), "NodeProblem", "has no address"),
    ]
    assert Cluster().look(setting, gone) == [
        (own, "NodeProblem", "Setting mtu: is too large"),
        (own, "NodeProblem", "Service default/gone: was wrong"),
    ]


def test_once_an_hour_even_if_its_numbers_change() -> None:
    cluster = Cluster()
    for second in range(3599):
        cluster.look(Problem("Service default/web", f"failed {second} times"))
        cluster.now += 1
    assert len(cluster.written) == 1
    cluster.now += 1
    assert len(cluster.look(Problem("Service default/web", "failed 4000 times"))) == 1
    assert cluster.written[0][3] != cluster.written[1][3]


def test_five_a_minute_and_no_kind_waits_for_another() -> None:
    cluster = Cluster(services=564)
    many = [Problem(f"Service default/s{n}", f"wants port {n}") for n in range(564)]
    first = cluster.look(*many, Problem("Pod kube-system/dns-1", "has no room"))
    assert [found[0].name for found in first] == ["s0", "dns-1", "s1", "s10", "s100"]
    cluster.now += 59
    assert cluster.look(*many) == []
    cluster.now += 1
    assert [found[0].name for found in cluster.look(*many)] == [
        "s101",
        "s102",
        "s103",
        "s104",
        "s105",
    ]


def test_what_the_api_does_not_take_is_tried_again() -> None:
    cluster = Cluster()
    cluster.away = True
    problem = Problem("Service default/web", "is wrong")
    assert cluster.look(problem) == []
    cluster.away = False
    assert len(cluster.look(problem)) == 1


def test_nodes_that_say_the_same_give_the_event_one_name() -> None:
    names = set()
    for name in ("node1", "node2"):
        cluster = Cluster(name)
        cluster.look(Problem("Service default/web", "is wrong"))
        names.add(cluster.written[0][3])
    (name,) = names
    assert name.startswith("web.kubypass-")
