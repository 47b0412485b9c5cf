# SPDX-License-Identifier: Apache-2.0
"""Clients in many places that ask services without end, and a judge of all that they were answered."""

from __future__ import annotations

import errno
import json
import re
import signal
import subprocess
import sys
import time
from calendar import timegm
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

from kubypass_lab.box.kubernetes.cluster import Cluster
from kubypass_lab.box.kubernetes.kubectl import kubectl_environment
from kubypass_lab.box.paths import CLIENT
from kubypass_lab.box.patience import ANSWER_S
from kubypass_lab.box.process import wait_until
from tests.kubernetes.serving import NAMESPACE, PRE_STOP_S, TCP, UDP, Served, command_at

STREAMER = Path(__file__).resolve().parents[1] / "box/streamer.py"
PAUSES_S = {"new": 0.005, "kept": 0.002}
_END_S = ANSWER_S + 10
_LATE_S = 0.9
_ERRORS = {"timeout", "closed", *(name.lower() for name in errno.errorcode.values())}
_ENDING = re.compile(r"^(\S+) (\S+)Z (\d+)$")
Stream = dict[str, str]


@dataclass
class Clients:
    """The clients of one place and kind."""

    place: str
    plan: list[Stream]
    log: Path
    process: subprocess.Popen[bytes]
    may_die: bool
    may_fail: bool
    """Nothing but a wrong answer counts."""


@dataclass
class Traffic:
    """What was asked, and what was made of it."""

    clients: list[Clients]
    endings: dict[str, float] = field(default_factory=dict)
    """Pods that are to end: since when, in seconds of CLOCK_MONOTONIC."""
    requests: int = 0
    slowest_s: float = 0.0
    late: list[str] = field(default_factory=list)
    """Right answers that took as long as a lost SYN takes."""
    ended: int = 0
    """Requests that failed and may: most are of kept connections that ended with their pod."""

    def asked(self) -> int:
        """Requests so far."""
        return sum(
            each.log.read_bytes().count(b"\n") for each in self.clients if each.log.is_file()
        )

    def failures(self) -> list[str]:
        """Whatever was not the right answer, in words."""
        found = []
        for each in self.clients:
            lines = each.log.read_text().splitlines()
            if not lines:
                found.append(f"{each.place} has asked nothing")
            found += self._judge(each, lines)
        return found

    def _judge(self, clients: Clients, lines: list[str]) -> Iterator[str]:
        served_by: dict[int, str] = {}
        for line in lines:
            try:
                begin_s, end_s, index, outcome = json.loads(line)
            except ValueError:
                if not clients.may_die:
                    yield f"{clients.place}: half a line: {line}"
                continue
            stream = clients.plan[index]
            self.requests += 1
            word, _, pod = str(outcome).partition(" ")
            before = served_by.pop(index, "") if stream["kind"] == "kept" else ""
            what = f"{stream['kind']} {stream['protocol']} {stream['service']} {stream['to']}"
            where = f"{stream['address']}:{stream['port']}"
            kept = f", was {before}" if before else ""
            said = f"{begin_s:.3f}..{end_s:.3f} {clients.place} -> {what} {where}: {outcome}{kept}"
            if word == "ok" and pod.startswith(f"{stream['service']}-"):
                self.slowest_s = max(self.slowest_s, end_s - begin_s)
                served_by[index] = pod
                if end_s - begin_s > _LATE_S:
                    self.late.append(said)
                if not before or before == pod or stream["protocol"] == "UDP":
                    continue
            elif word in _ERRORS and (clients.may_fail or self._has_ended(before, end_s)):
                self.ended += 1
                continue
            yield said

    def _has_ended(self, pod: str, at_s: float) -> bool:
        """Whether a pod had to do nothing more: its container may be gone. Clocks of the API have whole seconds."""
        return pod in self.endings and at_s > self.endings[pod] + PRE_STOP_S - 1


def places(cluster: Cluster) -> list[str]:
    """A pod on each node, a process of each node, and the client outside."""
    aliases = [node.alias for node in cluster.nodes]
    return [CLIENT, *aliases, *(f"pod/asker-{alias}" for alias in aliases)]


def plan(
    cluster: Cluster, place: str, kind: str, services: Iterable[Served], nodes: Iterable[str]
) -> list[Stream]:
    """Every way from a place to these services, through these nodes' NodePorts.

    A datagram from a port that was used a moment ago is no new connection: it belongs to what was before.
    """
    found = []
    for served in services:
        for protocol, port in (("TCP", TCP), ("UDP", UDP)):
            way = "fresh" if (kind, protocol) == ("new", "UDP") else kind
            stream = {"kind": way, "protocol": protocol, "service": served.name}
            if place != CLIENT:
                found.append({**stream, "to": "cluster", "address": served.cluster_ip, "port": str(port)})  # fmt: skip
            for alias in nodes:
                address = str(cluster.topology.node(alias).address(4))
                number = str(served.node_ports[port])
                found.append({**stream, "to": alias, "address": address, "port": number})
    return found


@contextmanager
def traffic(
    cluster: Cluster,
    directory: Path,
    services: list[Served],
    *,
    at: list[str] | None = None,
    through: list[str] | None = None,
    mortal: tuple[str, ...] = (),
    may_fail: bool = False,
) -> Iterator[Traffic]:
    """Traffic for the length of a block, in which it has begun everywhere; `mortal` places may go away."""
    through = through or [node.alias for node in cluster.nodes]
    found = Traffic([])
    try:
        for place in at or places(cluster):
            for kind, pause_s in PAUSES_S.items():
                name = f"{place.replace('/', '-')}-{kind}"
                streams = plan(cluster, place, kind, services, through)
                path, log = directory / f"{name}.json", directory / f"{name}.log"
                path.write_text(json.dumps(streams))
                words = [sys.executable, str(STREAMER), str(path), str(log), str(pause_s)]
                with (directory / f"{name}.errors").open("wb") as errors:
                    process = subprocess.Popen(command_at(cluster, place, words), stderr=errors)
                found.clients.append(
                    Clients(place, streams, log, process, place in mortal, may_fail)
                )
        with _endings(cluster, found):
            assert wait_until(lambda: _all_ask(found), 300), "some clients ask nothing"
            yield found
    finally:
        for each in found.clients:
            each.process.send_signal(signal.SIGTERM)
        for each in found.clients:
            code = each.process.wait(_END_S)
            assert each.may_die or code == 0, f"{each.place} ended with {code}"


def _all_ask(found: Traffic) -> bool:
    return all(each.log.is_file() and each.log.stat().st_size > 200 for each in found.clients)


@contextmanager
def _endings(cluster: Cluster, found: Traffic) -> Iterator[None]:
    """Follows which pods are told to end; kubectl is begun again where it loses the API server."""
    template = "jsonpath={.metadata.name} {.metadata.deletionTimestamp} {.metadata.deletionGracePeriodSeconds}{'\\n'}"
    words = ["get", "pods", "-n", NAMESPACE, "--watch", "-o", template]
    command = ["nsenter", f"--net={cluster.paths.fabric}", str(cluster.paths.programs / "kubectl")]
    following: list[subprocess.Popen[str]] = []
    over = False

    def follow() -> None:
        while not over:
            with subprocess.Popen(
                [*command, *words], env=kubectl_environment(cluster.paths), text=True,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            ) as process:  # fmt: skip
                following[:] = [process]
                assert process.stdout
                for line in process.stdout:
                    _note_ending(found, line)

    thread = Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        over = True
        for process in following:
            process.kill()
        thread.join(_END_S)


def _note_ending(found: Traffic, line: str) -> None:
    if match := _ENDING.match(line.strip()):
        name, until, grace = match.groups()
        wall_s = timegm(time.strptime(until, "%Y-%m-%dT%H:%M:%S")) - int(grace)
        begun_s = wall_s - time.time() + time.monotonic()
        found.endings[name] = min(begun_s, found.endings.get(name, begun_s))
