# SPDX-License-Identifier: Apache-2.0
"""kubypass next to kube-proxy, iptables and nftables, on one real API server that holds a large cluster.

Each takes its turn on a bare node of its own, in every round in another order; nothing else runs beside it but the
API server, the client and whatever else the machine does, so loads are told and medians over rounds compared.
"""

from __future__ import annotations

import os
import platform
import random
import statistics
import time
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from kubypass.bench import kubernetes_objects as objects
from kubypass.bench.kubernetes_api import Say, Server, api_server
from kubypass.bench.kubernetes_node import backends
from kubypass.bench.kubernetes_objects import BACKENDS, Size
from kubypass.bench.kubernetes_run import Churn, Load, measure_turn
from kubypass.bench.proxies import Proxy, kubypass_rights
from kubypass.bench.scale import percentile
from kubypass.box.kubernetes.programs import VERSION
from kubypass.errors import ConfigError

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
) -> dict[str, Any]:
    """All turns, and their medians and ratios; takes minutes."""
    size.check()
    nodes = len(proxies)
    if size.nodes < nodes:
        raise ConfigError(f"--nodes {size.nodes}: expected {nodes} or more, one for each proxy")
    begun = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    with api_server(nodes, say) as server, backends(server):
        loaded_s = _fill(server, size, say)
        runs = take_turns(Churn(server, size, load, {}), proxies, rounds, say)
    return {
        "machine": {"kernel": platform.release(), "cores": os.cpu_count()},
        "begun": begun,
        "kubernetes": VERSION,
        "size": {"nodes": size.nodes, "services": size.services, "endpoints": size.endpoints},
        "filled_s": loaded_s,
        "runs": runs,
        **summary(runs),
    }


def take_turns(
    churn: Churn, proxies: Sequence[Proxy], rounds: int, say: Say
) -> list[dict[str, Any]]:
    """One turn of each proxy a round; each begins a round in its turn."""
    runs: list[dict[str, Any]] = []
    for turn_of in range(rounds):
        for at in range(len(proxies)):
            number = (turn_of + at) % len(proxies)
            say(f"round {turn_of + 1} of {rounds}: {proxies[number].name}")
            dice = random.Random(_SEED + turn_of)
            run = measure_turn(proxies[number], number, churn, dice)
            runs.append({"round": turn_of + 1, **run})
            say(_line(run))
    return runs


def _fill(server: Server, size: Size, say: Say) -> float:
    """Creates all objects; returns the seconds it took."""
    begun = time.monotonic()
    server.create_all(kubypass_rights())
    server.create_all(
        chain(
            map(objects.node, range(size.nodes)),
            map(objects.service, range(size.services)),
            (objects.numbered_slice(size, number) for number in range(size.services)),
            [objects.live_service(), objects.live_slice(BACKENDS[0])],
        )
    )
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
    """By proxy: median, least and most of each figure over its turns, percentiles of all its switches.

    Ratios are of medians (p50, p99 of switches), to kubypass where it took part: 2.0 is twice as much.
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
