# SPDX-License-Identifier: Apache-2.0
"""Many pods at once, and agents that are killed at any moment: no address is lost, none is given twice."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import statistics
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from kubypass_lab.box.patience import DEADLINE_S
from tests.cni.exchange import connects
from tests.cni.runtime import Runtime, addresses_of, inside, running, write_node
from tests.waiting import wait

AT_ONCE = 30
ROUNDS = int(os.environ.get("KUBYPASS_CNI_KILLS", "6"))


def node_netns(pods: Runtime) -> str:
    return f"/run/netns/{pods.node.namespace}"


def records(pods: Runtime) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in (pods.node.run / "pods").glob("[!.]*.json")]


def routed(pods: Runtime) -> dict[str, str]:
    """Host routes of the node: address to device."""
    found = {}
    for version in ("-4", "-6"):
        for route in json.loads(inside(node_netns(pods), "ip", "-j", version, "route")):
            if route.get("dev", "").startswith("lxc") and "/" not in route["dst"]:
                found[route["dst"]] = route["dev"]
    return found


def check_books(pods: Runtime, living: dict[str, dict[str, Any]]) -> None:
    """Records, devices and routes are those of the living pods, each address is one pod's."""
    given = [address for result in living.values() for address in addresses_of(result)]
    assert len(given) == len(set(given))
    found = {record["container_id"]: record for record in records(pods)}
    assert found.keys() == living.keys()
    for name, result in living.items():
        assert found[name]["addresses"] == addresses_of(result)
    devices = json.loads(inside(node_netns(pods), "ip", "-j", "link"))
    names = {link["ifname"] for link in devices if link["ifname"].startswith("lxc")}
    assert names == {result["interfaces"][0]["name"] for result in living.values()}
    for address in given:
        assert address in routed(pods) or ":" in address


def test_thirty_pods_at_once(pods: Runtime) -> None:
    names = [f"pod{number}" for number in range(AT_ONCE)]
    for name in names:
        pods.sandbox(name)
    with running(pods), ThreadPoolExecutor(AT_ONCE) as workers:
        started = time.perf_counter()
        results = dict(zip(names, workers.map(pods.add, names), strict=True))
        took = time.perf_counter() - started
        check_books(pods, results)
        connects(pods.netns("pod0"), pods.netns("pod29"), pods.addresses("pod29")[0])
        list(workers.map(pods.delete, names))
        wait(lambda: pods.node.status()["pods"] == 0, "no pods")
        check_books(pods, {})
    text = (pods.node.root / "agent.log").read_text()
    spent = sorted(float(ms) for ms in re.findall(r"CNI command=ADD .* ms=([0-9.]+)", text))
    assert len(spent) == AT_ONCE
    print(f"{AT_ONCE} ADDs in {took:.2f} s; p50 {statistics.median(spent)} ms, max {spent[-1]} ms")


class Agents:
    """An agent that is started again as often as it dies."""

    def __init__(self, pods: Runtime) -> None:
        self._pods = pods
        self._random = random.Random(5)
        self._ended = threading.Event()
        self.kills = 0

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                with running(self._pods):
                    pid = self._pods.node.status()["agent"]["pid"]
                    if not self._ended.wait(self._random.uniform(0.02, 0.6)):
                        os.kill(pid, signal.SIGKILL)
                        self.kills += 1
            except ProcessLookupError:
                continue

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def until_done(pods: Runtime, command: str, name: str) -> dict[str, Any] | None:
    """Tries again until it works, as a kubelet does. A pod that failed is deleted before the next try."""
    deadline = time.monotonic() + 5 * DEADLINE_S
    while True:
        code, result = pods.call(command, name)
        if code == 0:
            return result
        assert result["code"] == 11, result
        assert time.monotonic() < deadline
        if command == "ADD":
            pods.call("DEL", name)
        time.sleep(0.02)


def test_agents_are_killed_while_pods_come_and_go(pods: Runtime) -> None:
    """Four runtimes' threads, each with a pod after another, most of them deleted again."""
    with running(pods):
        pass  # the configuration is there from now on
    write_node(pods.node, ("10.9.0.0/27", "fd09::/123"))
    living: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + 10 * DEADLINE_S

    def work(worker: int) -> None:
        number = 0
        while agents.kills < ROUNDS or number < 3:
            assert time.monotonic() < deadline
            name = f"w{worker}-{number}"
            pods.sandbox(name)
            living[name] = until_done(pods, "ADD", name) or {}
            if number % 3:
                until_done(pods, "DEL", name)
                del living[name]
                subprocess.run(
                    ["ip", "netns", "delete", f"{pods.node.namespace}-{name}"], check=True
                )
            number += 1
            if number % 3 == 0:
                until_done(pods, "DEL", first := f"w{worker}-{number - 3}")
                living.pop(first)

    with Agents(pods) as agents, ThreadPoolExecutor(4) as workers:
        list(workers.map(work, range(4)))
    assert agents.kills >= ROUNDS
    with running(pods):
        check_books(pods, living)
        for name, result in living.items():
            assert pods.call("CHECK", name, prevResult=result) == (0, None)
            place, address = pods.netns(name), addresses_of(result)[0]
            assert connects(node_netns(pods), place, address) == "192.168.1.31"
            assert connects(node_netns(pods), place, addresses_of(result)[1]) == "fd00::31"
        assert not [p for p in pods.node.status()["problems"] if "sysctl" not in p["message"]]
