# SPDX-License-Identifier: Apache-2.0
"""One proxy's turn: its start, an idle phase, steady endpoint changes, and the delay until a client sees a change."""

from __future__ import annotations

import os
import random
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from subprocess import Popen

from kubypass.errors import KubypassError
from kubypass_lab.bench import usage
from kubypass_lab.bench.kubernetes_api import Server, Writer
from kubypass_lab.bench.kubernetes_node import Dialer, ProxyNode, dialer, proxy_node
from kubypass_lab.bench.kubernetes_objects import BACKENDS, Size, live_slice, numbered_slice
from kubypass_lab.bench.proxies import Proxy
from kubypass_lab.box.process import last_line

_START_S = 900.0
_SWITCH_S = 120.0
_POLL_S = 0.02
_WRITERS = 4
_OWN_SERVICES = 2
"""The live service, and the API server's service."""


@dataclass(frozen=True, slots=True)
class Load:
    """The load of a turn: idle time, then changes at a steady rate, then switches of the live service."""

    idle_s: float
    rate: int
    """Changes per second."""
    seconds: float
    switches: int


@dataclass(slots=True)
class Churn:
    """Writes slices one after another at a steady rate, each with a different first endpoint."""

    server: Server
    size: Size
    load: Load
    generations: dict[int, int]
    """The generation of each service's slice, which continues from turn to turn."""
    written: int = 0
    ended: float = 0.0
    """The time when the last write was answered (CLOCK_MONOTONIC, s)."""
    failed: list[BaseException] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, writers: list[Writer]) -> None:
        """Write all changes. The last write begins `load.seconds` after the first, or later if writes are slow."""
        self.written = 0
        begun = time.monotonic()
        threads = [threading.Thread(target=self._work, args=[each, begun]) for each in writers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.ended = time.monotonic()

    def _work(self, writer: Writer, begun: float) -> None:
        total = int(self.load.rate * self.load.seconds)
        while not self.failed:
            with self._lock:
                turn = self.written
                if turn >= total:
                    return
                self.written += 1
                number = turn % self.size.services
                generation = self.generations[number] = self.generations.get(number, 0) + 1
            time.sleep(max(0.0, begun + turn / self.load.rate - time.monotonic()))
            try:
                writer.replace(numbered_slice(self.size, number, generation))
            except (KubypassError, OSError) as error:
                self.failed.append(error)


@dataclass(slots=True)
class Turn:
    """A proxy on its node, with a client."""

    server: Server
    proxy: Proxy
    size: Size
    node: ProxyNode
    client: Dialer
    writer: Writer
    backend: int
    """The current backend of the live service."""
    dice: random.Random

    def start(self, process: Popen[bytes], begun: float) -> dict[str, object]:
        """Wait until the proxy is healthy, the client is answered, and the kernel has all services.

        The seconds count from exec.
        """
        node, peak = self.node, 0
        answered: float | None = None
        healthy: float | None = None
        while answered is None or healthy is None:
            if answered is None:
                answered = self.client.wait_for(BACKENDS[self.backend], _POLL_S)
            else:
                time.sleep(_POLL_S)
            if healthy is None and self.proxy.healthy(node):
                healthy = time.monotonic()
            peak = max(peak, usage.resident_kb(node.proxy_cgroup))
            self._check_alive(process, begun)
        ready = max(answered, healthy)
        cpu = usage.cpu_seconds(node.proxy_cgroup)
        services = self.proxy.count_services(node)
        while services < self.size.services + _OWN_SERVICES:
            self._check_alive(process, begun)
            ready = time.monotonic()
            cpu = usage.cpu_seconds(node.proxy_cgroup)
            services = self.proxy.count_services(node)
        return {
            "ready_s": ready - begun,
            "healthy_s": healthy - begun,
            "answered_s": answered - begun,
            "cpu_s": cpu,
            "services": services,
            "peak_tree_kb": peak,
        }

    def _check_alive(self, process: Popen[bytes], begun: float) -> None:
        log = self.node.root / "log"
        if process.poll() is not None:
            raise KubypassError(f"{self.proxy.name} ended: {last_line(log)}")
        if time.monotonic() - begun > _START_S:
            raise KubypassError(
                f"{self.proxy.name} is not ready after {_START_S:.0f} s: {last_line(log)}"
            )

    def idle(self, process: Popen[bytes], seconds: float) -> dict[str, object]:
        """Measure while nothing changes. CPU is in cores."""
        before, begun = usage.cpu_seconds(self.node.proxy_cgroup), time.monotonic()
        time.sleep(seconds)
        used = usage.cpu_seconds(self.node.proxy_cgroup) - before
        return {
            "cores": used / (time.monotonic() - begun),
            "rss_kb": usage.resident_kb(self.node.proxy_cgroup),
            "peak_kb": usage.peak_kb(process.pid),
        }

    def churn(self, churn: Churn, idle_cores: float) -> dict[str, object]:
        """Measure CPU under a steady stream of changes, until the client sees a change that was written after them."""
        cgroup, seen = self.node.proxy_cgroup, list[float]()
        with ExitStack() as stack:
            writers = [stack.enter_context(self.server.writer()) for _ in range(_WRITERS)]
            before, begun = usage.cpu_seconds(cgroup), time.monotonic()
            thread = threading.Thread(target=churn.run, args=[writers])
            thread.start()
            try:
                while thread.is_alive():
                    self._switch_into(seen)
                    thread.join(self.dice.uniform(0.0, 1.0))
            except BaseException as error:
                churn.failed.append(error)
                raise
            finally:
                thread.join()
            written = churn.ended - begun
        if churn.failed:
            raise churn.failed[0]
        self._switch_into(seen)
        whole = time.monotonic() - begun
        used = usage.cpu_seconds(cgroup) - before
        extra = used - idle_cores * whole
        return {
            "changes": churn.written,
            "written_per_s": churn.written / written,
            "seconds": whole,
            "cpu_s": used,
            "cpu_ms_per_change": 1000 * extra / churn.written,
            "cores_at_100_per_s": 100 * extra / churn.written,
            "switch_ms": seen,
        }

    def switches(self, count: int) -> list[float]:
        """Switch the live service with pauses of up to 2 s and no other load. Returns the delays in ms."""
        seen: list[float] = []
        for _ in range(count):
            time.sleep(self.dice.uniform(0.0, 2.0))
            self._switch_into(seen)
        return seen

    def _switch_into(self, seen: list[float]) -> None:
        """Switch the live service once, and append the delay in ms.

        The delay begins with the API server's answer and ends with the first connection to the new backend.
        """
        self.backend = 1 - self.backend
        self.writer.replace(live_slice(BACKENDS[self.backend]))
        written = time.monotonic()
        when = self.client.wait_for(BACKENDS[self.backend], _SWITCH_S)
        if when is None:
            raise KubypassError(
                f"{self.proxy.name}: no connection to the new backend after {_SWITCH_S:.0f} s"
            )
        seen.append(1000 * (when - written))


def measure_turn(proxy: Proxy, number: int, churn: Churn, dice: random.Random) -> dict[str, object]:
    """All figures of one proxy on the numbered node. Times are in s or ms, as the names say; memory is in kB."""
    server = churn.server
    with (
        server.writer() as writer,
        proxy_node(server, number) as node,
        dialer(node) as client,
    ):
        writer.replace(live_slice(BACKENDS[0]))
        turn = Turn(server, proxy, churn.size, node, client, writer, 0, dice)
        result: dict[str, object] = {"proxy": proxy.name, "load_before": os.getloadavg()[0]}
        command, begun = proxy.command(node), time.monotonic()
        with node.process(command, node.proxy_cgroup) as process:
            result["start"] = turn.start(process, begun)
            failures = client.failures
            idle = result["idle"] = turn.idle(process, churn.load.idle_s)
            result["churn"] = turn.churn(churn, float(str(idle["cores"])))
            result["switch_ms"] = turn.switches(churn.load.switches)
            result["failed_dials"] = client.failures - failures
            result["after"] = {
                "rss_kb": usage.resident_kb(node.proxy_cgroup),
                "peak_kb": usage.peak_kb(process.pid),
                "load": os.getloadavg()[0],
            }
        return result
