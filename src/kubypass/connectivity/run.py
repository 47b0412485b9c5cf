# SPDX-License-Identifier: Apache-2.0
"""The test itself: every path, until it passes or the time for new services to be served is over."""

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
    read_places,
    read_services,
)
from kubypass.connectivity.judge import Drops, Result, judge, new_drops
from kubypass.connectivity.objects import Deployment
from kubypass.connectivity.paths import Path, Place, plan_paths
from kubypass.connectivity.probe import Probe
from kubypass.kube.client.rest import Rest

OURS = "ebpf"
_SETTLE_S = 15.0
"""New services are served within this time."""
_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator wants."""

    image: str
    """Empty: that of the agents, or `default_image`."""
    default_image: str
    nodes: Sequence[str]
    outside: Sequence[tuple[str, int]]
    wait_s: float
    keep: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it."""

    places: tuple[Place, ...]
    proxies: tuple[str, ...]
    """Of the places: `ebpf`, a mode of kube-proxy's, or empty."""
    results: tuple[Result, ...]

    @property
    def failed(self) -> list[Result]:
        """Those that count."""
        return [each for each in self.results if not each.passed and self.counts(each)]

    def counts(self, result: Result) -> bool:
        """Whether the path has to work with what serves this cluster."""
        return _counts(result.path, self.proxies)


def _counts(path: Path, proxies: Iterable[str]) -> bool:
    return not path.optional or all(proxy == OURS for proxy in proxies)


def run(rest: Rest, options: Options, say: Say, progress: Callable[[int, int], None]) -> Report:
    """Deploys, tries every path, takes everything away again. `progress` is told rows done and rows."""
    nodes = choose_nodes(rest, options.nodes)
    image = options.image or agents_image(rest) or options.default_image
    deployment = Deployment(nodes, image, secrets.token_hex(16))
    say(f"nodes {', '.join(nodes)}; image {image}")
    with deployed(rest, deployment, options.wait_s, keep=options.keep, say=say):
        places = read_places(rest, deployment)
        pods = {place.letter: next(iter(place.pod.values())) for place in places}
        probe = Probe(rest, deployment.token, pods)
        proxies = tuple(probe.proxy(place.letter) for place in places)
        paths = plan_paths(
            places, read_services(rest), has_dns=has_dns(rest), outside=options.outside
        )
        needed = {path for path in paths if _counts(path, proxies)}
        results = _try_all(probe, places, paths, needed, progress)
    return Report(places, proxies, results)


def _try_all(
    probe: Probe,
    places: tuple[Place, ...],
    paths: Sequence[Path],
    needed: set[Path],
    progress: Callable[[int, int], None],
) -> tuple[Result, ...]:
    """All once; those that are needed again, until they pass."""
    deadline = time.monotonic() + _SETTLE_S
    results: dict[Path, Result] = {}
    open_paths = list(paths)
    while True:
        for path in open_paths:
            results[path] = _try(probe, places, path)
            progress(sum(result.passed for result in results.values()), len(paths))
        open_paths = [path for path in paths if path in needed and not results[path].passed]
        if not open_paths or time.monotonic() > deadline:
            return tuple(results[path] for path in paths)
        time.sleep(_PAUSE_S)


def _try(probe: Probe, places: Iterable[Place], path: Path) -> Result:
    before: dict[str, Drops] = {place.letter: probe.drops(place.letter) for place in places}
    result = judge(path, probe.try_path(path))
    if result.passed:
        return result
    reasons: list[str] = []
    for place in places:
        reasons += new_drops(place.node, before[place.letter], probe.drops(place.letter))
    return dataclasses.replace(result, reasons=tuple(reasons))
