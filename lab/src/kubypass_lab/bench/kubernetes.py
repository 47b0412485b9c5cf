# SPDX-License-Identifier: Apache-2.0
"""Measures kubypass next to kube-proxy (iptables and nftables) on one real API server with a large cluster.

Each proxy takes its turn on a new bare node, in a different order each round. Beside it only the API server and the
client run, but the machine may do other work, so the results contain the load, and medians over rounds are compared.
"""

from __future__ import annotations

import os
import platform
import random
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

from kubypass.errors import ConfigError
from kubypass_lab.bench import kubernetes_objects as objects
from kubypass_lab.bench.kubernetes_api import Say, Server, api_server
from kubypass_lab.bench.kubernetes_node import backends
from kubypass_lab.bench.kubernetes_objects import BACKENDS, Size
from kubypass_lab.bench.kubernetes_run import Churn, Load, measure_turn
from kubypass_lab.bench.proxies import Proxy, kubypass_rights
from kubypass_lab.bench.scale import percentile
from kubypass_lab.box.kubernetes.programs import VERSION

_SEED = 5
_FIGURES = {
    "ready_s": ("start", "ready_s"),
    "start_cpu_s": ("start", "cpu_s"),
    "idle_cores": ("idle", "cores"),
    "idle_rss_kb": ("idle", "rss_kb"),
    "peak_kb": ("after", "peak_kb"),
    "peak_tree_kb": ("start", "peak_tree_kb"),
    "cores_at_100_per_s": ("churn", "cores_at_100_per_s"),
}
"""By name, where a turn has it."""


def measure(
    size: Size, load: Load, proxies: Sequence[Proxy], rounds: int, say: Say
) -> Iterator[dict[str, Any]]:
    """Yields all turns so far with their medians and ratios, after every turn. A turn takes minutes."""
    size.check()
    if size.nodes < len(proxies):
        least = len(proxies)
        raise ConfigError(f"--nodes {size.nodes}: expected {least} or more, one for each proxy")
    head: dict[str, Any] = {
        "machine": {"kernel": platform.release(), "cores": os.cpu_count()},
        "begun": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "kubernetes": VERSION,
        "size": asdict(size),
        "load": asdict(load),
    }
    runs: list[dict[str, Any]] = []
    with api_server(len(proxies), say) as server, backends(server):
        head["filled_s"] = _fill(server, size, say)
        churn = Churn(server, size, load, {})
        for turn in range(rounds):
            for at in range(len(proxies)):
                number = (turn + at) % len(proxies)  # the proxies take turns in being first
                say(f"round {turn + 1} of {rounds}: {proxies[number].name}")
                run = measure_turn(proxies[number], number, churn, random.Random(_SEED + turn))
                runs.append({"round": turn + 1, **run})
                say(_line(run))
                yield {**head, "runs": runs, **summary(runs)}


def _fill(server: Server, size: Size, say: Say) -> float:
    """Create all objects. Returns the seconds that it took.

    The API server allocates at most 50 service addresses a second, so slices are created in between.
    """
    begun = time.monotonic()
    server.create_all(kubypass_rights())
    pairs = (
        (objects.service(number), objects.numbered_slice(size, number))
        for number in range(size.services)
    )
    live = [objects.live_service(), objects.live_slice(BACKENDS[0])]
    server.create_all(chain(map(objects.node, range(size.nodes)), chain.from_iterable(pairs), live))
    took = time.monotonic() - begun
    say(f"{size.nodes} nodes, {size.services} services x {size.endpoints} endpoints, {took:.0f} s")
    return took


def _line(run: dict[str, Any]) -> str:
    quiet, busy = run["switch_ms"], run["churn"]["switch_ms"]
    return (
        f"  ready {run['start']['ready_s']:.2f} s, {run['idle']['rss_kb'] // 1024} MB, "
        f"{run['churn']['cores_at_100_per_s']:.3f} cores at 100 changes/s, "
        f"switch p50 {statistics.median(quiet or [0.0]):.1f} ms, busy {statistics.median(busy):.1f} ms; "
        f"load {run['load_before']:.1f} to {run['after']['load']:.1f}"
    )


def summary(runs: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """For each proxy, the median, least and most of each figure over its turns, and percentiles of all its switches.

    Ratios are of medians (p50 and p99 for switches) to kubypass, if it took part: 2.0 is twice as much.
    """
    by_proxy: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        by_proxy.setdefault(run["proxy"], []).append(run)
    figures = {name: _figures(own) for name, own in by_proxy.items()}
    ours = figures.get("kubypass")
    ratios = {
        name: {
            key: value["median"] / ours[key]["median"]
            for key, value in its.items()
            if ours[key]["median"] > 0
        }
        for name, its in figures.items()
        if ours is not None and name != "kubypass"
    }
    return {"summary": figures, "ratios": ratios}


def _figures(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    found = {
        name: _spread([float(run[part][key]) for run in runs])
        for name, (part, key) in _FIGURES.items()
    }
    switches = {
        "switch": [run["switch_ms"] for run in runs],
        "busy_switch": [run["churn"]["switch_ms"] for run in runs],
    }
    for name, by_turn in switches.items():
        every = [value for values in by_turn for value in values]
        for share in (50, 99) if every else ():
            by_round = [percentile(values, share / 100) for values in by_turn if values]
            found[f"{name}_p{share}_ms"] = {
                **_spread(by_round),
                "median": percentile(every, share / 100),
            }
    return found


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}
