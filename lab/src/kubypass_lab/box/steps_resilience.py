# SPDX-License-Identifier: Apache-2.0
"""The demo's steps h to j: no request fails while pods and agents come and go, and cleanup leaves nothing behind."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kubypass.model.address import in_brackets
from kubypass_lab.box import agents
from kubypass_lab.box.apply import scale
from kubypass_lab.box.checks import Checks
from kubypass_lab.box.enter import find_target, run_in
from kubypass_lab.box.patience import ANSWER_S
from kubypass_lab.box.process import Process, is_alive, spawn, stop, wait_until
from kubypass_lab.box.snapshot import (
    Snapshot,
    compare,
    existing_bpf_objects,
    read_bpf_objects,
    take_snapshot,
)
from kubypass_lab.box.steps_basic import VISITOR, Scenario, access
from kubypass_lab.box.traffic import Request, read_latest, read_log

PHASE_S = 0.5  # how long traffic flows at a size before the next change
SIZES = (3, 1, 2, 0, 3, 2)


@dataclass(frozen=True, slots=True)
class Stream:
    """One program that asks for a page again and again."""

    name: str
    process: Process
    log: Path

    def between(self, begin_s: float, end_s: float) -> list[Request]:
        """The requests that began and ended in an interval of CLOCK_MONOTONIC."""
        return [
            each for each in read_log(self.log) if begin_s <= each.begin_s and each.end_s <= end_s
        ]


@contextmanager
def traffic(scenario: Scenario, visitor: str = VISITOR) -> Iterator[list[Stream]]:
    """Keep up requests: the client asks each node's NodePort, and a pod asks the ClusterIP."""
    targets = [
        ("client", f"http://{in_brackets(address)}:{scenario.node_port}/")
        for address in scenario.node_addresses()
    ]
    targets += [
        (f"pod/{visitor}", f"http://{in_brackets(address)}:80/") for address in scenario.cluster_ips
    ]
    streams: list[Stream] = []
    try:
        for index, (name, url) in enumerate(targets):
            target, log = (
                find_target(scenario.box, name),
                scenario.box.paths.root / f"traffic-{index}",
            )
            command = [
                sys.executable,
                "-m",
                "kubypass_lab.box.traffic",
                "--url",
                url,
                "--log",
                str(log),
            ]
            errors = log.with_suffix(".errors")
            process = spawn(
                command, cgroup=target.cgroup, namespace=target.namespace, log=errors, env={}
            )
            streams.append(Stream(f"{target.name} → {url}", process, log))
        _let_flow(streams, 0.0)
        yield streams
    finally:
        for stream in streams:
            stop(stream.process, signal.SIGTERM, ANSWER_S + 1)


def scale_under_load(checks: Checks, scenario: Scenario, streams: list[Stream]) -> None:
    """Step h: scale 2 → 3 → 1 → 2 → 0 → 3 → 2 under requests. They may fail only while there is no pod."""
    checks.step("h. scaling under continuous requests")
    begin_s = time.monotonic()
    empty_s: tuple[float, float] | None = None
    for size in SIZES:
        changing_s = time.monotonic()
        scale(scenario.box, "deployment/my-nginx", size, lambda _: None)
        changed_s = time.monotonic()
        if size == 0:
            _let_flow(streams, 0.0)
            _check_refused(checks, streams, changed_s, time.monotonic())
            empty_s = (changing_s, changed_s)
            continue
        if empty_s:
            _check_answered(checks, streams, "while it went from 2 to 1 to 3", begin_s, empty_s[0])
            empty_s, begin_s = None, changed_s
        checks.check(f"scaled to {size}", f"{size} pods ready", f"{_ready(scenario)} pods ready")
        _let_flow(streams, PHASE_S)
    _check_answered(checks, streams, "while it went back from 3 to 2", begin_s, time.monotonic())


def kill_agents(checks: Checks, scenario: Scenario, streams: list[Stream]) -> None:
    """Step i: kill and restart the agents. Traffic continues, and the restarted agents write nothing."""
    checks.step("i. the agents are killed with SIGKILL")
    begin_s = time.monotonic()
    agents.stop_agents(scenario.box.paths, signal.SIGKILL)
    running = [
        node.name for node in scenario.box.nodes if agents.is_running(scenario.box.paths, node.name)
    ]
    checks.check("agents that run", [], running)
    access(checks, scenario, "   without agents, all paths again:", tries=2)
    checks.step("   the agents are started again")
    agents.start_agents(scenario.box.paths, scenario.box.topology, scenario.box.settings)
    for node in scenario.box.nodes:
        writes = agents.ask(scenario.box.paths, node.name, "/status").get("writes")
        numbers = writes if isinstance(writes, dict) else {"none": "told"}
        text = ", ".join(f"{name} {count}" for name, count in numbers.items())
        checks.check(
            f"{node.name}: writes to the kernel", "all 0", text, passed=not any(numbers.values())
        )
    _let_flow(streams, PHASE_S)
    _check_answered(
        checks, streams, "from before the kill until after the start", begin_s, time.monotonic()
    )


def clean_up(checks: Checks, scenario: Scenario, before: dict[str, Snapshot]) -> None:
    """Step j: check that `kubypass cleanup` restores each node to its state before its agent first started."""
    checks.step("j. kubypass cleanup")
    box = scenario.box
    agents.stop_agents(box.paths)
    for node in box.nodes:
        ours = read_bpf_objects(box, node.name)
        checks.check(
            f"{node.name}: BPF objects held by pins", "1 or more", len(ours), passed=bool(ours)
        )
        answer = run_in(find_target(box, node.name), ["kubypass", "cleanup"])
        for line in (answer.stdout + answer.stderr).strip().splitlines():
            checks.say(f"      {line}")
        checks.check(
            f"{node.name}: kubypass cleanup", "exit code 0", f"exit code {answer.returncode}"
        )
        left = _wait_gone(ours)
        checks.check(f"{node.name}: programs, maps and links left", "none", left or "none")
        differences = compare(before[node.name], take_snapshot(box, node.name))
        for line in differences[1:8]:
            checks.say(f"      {line}")
        what = f"{node.name}: differences in {', '.join(before[node.name])}"
        checks.check(
            what, "none", f"{len(differences)}: {differences[0]}" if differences else "none"
        )


def _check_answered(
    checks: Checks, streams: list[Stream], when: str, begin_s: float, end_s: float
) -> None:
    for stream in streams:
        requests = stream.between(begin_s, end_s)
        failures = [each for each in requests if each.outcome != "ok"]
        slowest_ms = max((each.end_s - each.begin_s for each in requests), default=0.0) * 1000
        seen = f"{len(failures)} of {len(requests)} failed, slowest {slowest_ms:.0f} ms"
        if failures:
            first_s = failures[0].begin_s - begin_s
            seen += f", first: {failures[0].outcome} {first_s:.2f} s after the beginning"
        passed = not failures and bool(requests) and is_alive(stream.process)
        checks.check(f"{stream.name}, {when}", "0 failed", seen, passed=passed)


def _check_refused(checks: Checks, streams: list[Stream], begin_s: float, end_s: float) -> None:
    for stream in streams:
        requests = stream.between(begin_s, end_s)
        outcomes = sorted({each.outcome for each in requests}) or ["no request ended"]
        passed = bool(requests) and "ok" not in outcomes
        checks.check(
            f"{stream.name}, scaled to 0", "every request fails", ", ".join(outcomes), passed=passed
        )


def _ready(scenario: Scenario) -> int:
    return sum(pod.state == "ready" for pod in scenario.pods())


def _let_flow(streams: list[Stream], duration_s: float) -> None:
    """Wait until every stream has finished a request that began `duration_s` seconds from now."""
    target_s = time.monotonic() + duration_s

    def passed() -> bool:
        latest = [read_latest(stream.log) for stream in streams]
        return all(request is not None and request.begin_s > target_s for request in latest)

    wait_until(passed, duration_s + 3 * ANSWER_S)


def _wait_gone(objects: set[tuple[str, int]]) -> list[tuple[str, int]]:
    """Wait until the kernel has freed BPF objects. Returns those that remain."""
    wait_until(lambda: not existing_bpf_objects(objects))
    return sorted(existing_bpf_objects(objects))
