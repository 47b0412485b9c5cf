# SPDX-License-Identifier: Apache-2.0
"""Runs the test: tries every path until it passes, or until new services must be served."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kubypass.connectivity.deploy import (
    Say,
    agents_image,
    choose_nodes,
    deployed,
    has_dns,
    read_node_pods,
    read_services,
)
from kubypass.connectivity.judge import Drops, Result, judge, new_drops
from kubypass.connectivity.objects import Deployment
from kubypass.connectivity.paths import NodePods, Path, plan_paths
from kubypass.connectivity.probe import Probe
from kubypass.kube.client.rest import Rest

OURS = "ebpf"
_SETTLE_S = 15.0
"""The time in which new services must be served."""
_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Options:
    """The operator's options."""

    image: str
    """The image of test pods; empty for that of the agents, or else `default_image`."""
    default_image: str
    nodes: Sequence[str]
    outside: Sequence[tuple[str, int]]
    wait_s: float
    keep: bool


@dataclass(frozen=True, slots=True)
class Report:
    """The results of a test."""

    nodes: tuple[NodePods, ...]
    proxies: tuple[str, ...]
    """What serves each node: `ebpf`, a mode of kube-proxy, or empty if unknown."""
    results: tuple[Result, ...]

    @property
    def failed(self) -> list[Result]:
        """The failed results that count."""
        return [each for each in self.results if not each.passed and self.counts(each)]

    def counts(self, result: Result) -> bool:
        """Whether the path has to work with what serves this cluster."""
        return _counts(result.path, self.proxies)


def _counts(path: Path, proxies: Iterable[str]) -> bool:
    return not path.optional or all(proxy == OURS for proxy in proxies)


def run(rest: Rest, options: Options, say: Say, progress: Callable[[int, int], None]) -> Report:
    """Deploy, try every path, and remove everything again.

    `progress` receives the number of passed paths and of all paths.
    """
    names = choose_nodes(rest, options.nodes)
    image = options.image or agents_image(rest) or options.default_image
    deployment = Deployment(names, image, secrets.token_hex(16))
    say(f"nodes {', '.join(names)}; image {image}")
    with deployed(rest, deployment, options.wait_s, keep=options.keep, say=say):
        nodes = read_node_pods(rest, deployment)
        pods = {node.letter: next(iter(node.pod.values())) for node in nodes}
        probe = Probe(rest, deployment.token, pods)
        proxies = tuple(probe.proxy(node.letter) for node in nodes)
        paths = plan_paths(
            nodes, read_services(rest), has_dns=has_dns(rest), outside=options.outside
        )
        needed = {path for path in paths if _counts(path, proxies)}
        results = _try_all(probe, nodes, paths, needed, progress)
    return Report(nodes, proxies, results)


def _try_all(
    probe: Probe,
    nodes: tuple[NodePods, ...],
    paths: Sequence[Path],
    needed: set[Path],
    progress: Callable[[int, int], None],
) -> tuple[Result, ...]:
    """Try all paths once, and those that count again until they pass."""
    deadline = time.monotonic() + _SETTLE_S
    results: dict[Path, Result] = {}
    open_paths = list(paths)
    while True:
        for path in open_paths:
            results[path] = _try(probe, nodes, path)
            progress(sum(result.passed for result in results.values()), len(paths))
        open_paths = [path for path in paths if path in needed and not results[path].passed]
        if not open_paths or time.monotonic() > deadline:
            return tuple(results[path] for path in paths)
        time.sleep(_PAUSE_S)


def _try(probe: Probe, nodes: Iterable[NodePods], path: Path) -> Result:
    before: dict[str, Drops] = {node.letter: probe.drops(node.letter) for node in nodes}
    result = judge(path, probe.try_path(path))
    if result.passed:
        return result
    reasons: list[str] = []
    for node in nodes:
        reasons += new_drops(node.name, before[node.letter], probe.drops(node.letter))
    return dataclasses.replace(result, reasons=tuple(reasons))
