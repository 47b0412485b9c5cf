# SPDX-License-Identifier: Apache-2.0
"""kube-proxy's metrics, under kube-proxy's names, as far as they mean the same here.

A pass brings both families up to date, so each measurement counts for every family that is on. Metrics without a
meaning here (iptables rules, partial restores) are left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import datetime

from kubypass.api.metric import Histogram, Labels, Metric
from kubypass.kube.snapshot import Snapshot
from kubypass.model.address import Family
from kubypass.model.endpoint import EndpointSlice
from kubypass.model.service import Service, ServiceKey
from kubypass.settings.settings import Settings

_BOUNDS = tuple(0.001 * 2**n for n in range(15))
_PROGRAMMING_BOUNDS = (0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30))
_PREFIX = "kubeproxy_sync_"
_PASSES = {
    "": "Duration of a pass over services, in seconds.",
    "full_": "Duration of a pass over all services, in seconds.",
    "partial_": "Duration of a pass over services that changed, in seconds.",
}
_FAMILIES: dict[Family, str] = {4: "IPv4", 6: "IPv6"}


class SyncMetrics:
    """Counts what the agent's passes do. Other threads read it."""

    def __init__(self, settings: Settings) -> None:
        self._families = [label for v, label in _FAMILIES.items() if settings.network.has_family(v)]
        self._durations = {name: Histogram(_BOUNDS) for name in _PASSES}
        self._queued: float | None = None
        self._done: float | None = None
        self._services: dict[ServiceKey, Service] = {}
        self._slices: dict[ServiceKey, tuple[EndpointSlice, ...]] = {}
        self._programming = Histogram(_PROGRAMMING_BOUNDS)
        self._since = time.time()
        self._service_changes = 0
        self._slice_changes = 0

    def count_pass(
        self, duration_s: float, *, full: bool, queued: float | None, done: float
    ) -> None:
        """Counts a pass that has ended; `queued` and `done` are seconds since 1970."""
        for name in ("", "full_" if full else "partial_"):
            self._durations[name].observe(duration_s)
        self._queued, self._done = queued, done

    def count_changes(self, snapshot: Snapshot, keys: Iterable[ServiceKey]) -> None:
        """Counts changes of these services and their slices; an object that changed is another object."""
        for key in keys:
            service, slices = snapshot.services.get(key), snapshot.slices.get(key, ())
            self._service_changes += self._services.get(key) is not service
            before = {found.name: found for found in self._slices.get(key, ())}
            after = {found.name: found for found in slices}
            names = before.keys() | after.keys()
            self._slice_changes += sum(before.get(n) is not after.get(n) for n in names)
            self._services.pop(key, None)
            self._slices.pop(key, None)
            if service is not None:
                self._services[key] = service
            if slices:
                self._slices[key] = slices

    def count_programming(self, triggers: Iterable[tuple[ServiceKey, str]], done: float) -> None:
        """Counts changes of endpoints that reached the kernel at `done`; their causes have times as of RFC 3339."""
        for _, text in triggers:
            try:
                cause = datetime.fromisoformat(text).timestamp()
            except ValueError:
                continue
            if cause >= self._since:  # as in kube-proxy, which does not count what came before it
                self._programming.observe(max(0.0, done - cause))

    def metrics(
        self,
        answers: Mapping[tuple[str, int], int],
        without_local: Mapping[tuple[Family, str], int],
    ) -> list[Metric]:
        """Every metric; `answers` are by path (healthz, livez) and code, `without_local` by family and policy."""
        labels: list[Labels] = [(("ip_family", name),) for name in self._families]
        found = [
            Metric(
                f"{_PREFIX}{name}proxy_rules_duration_seconds",
                "histogram",
                text,
                tuple(s for family in labels for s in self._durations[name].samples(family)),
            )
            for name, text in _PASSES.items()
        ]
        found.append(
            Metric(
                "kubeproxy_network_programming_duration_seconds",
                "histogram",
                "Seconds from what made endpoints change until the kernel knows.",
                tuple(s for family in labels for s in self._programming.samples(family)),
            )
        )
        found += self._gauges(labels)
        counters = {
            "service": ("Services that were new, changed or gone.", self._service_changes),
            "endpoint": ("EndpointSlices that were new, changed or gone.", self._slice_changes),
        }
        for name, (text, value) in counters.items():
            full_name = f"{_PREFIX}proxy_rules_{name}_changes_total"
            found.append(Metric(full_name, "counter", text, (("", (), value),)))
        samples: list[tuple[str, Labels, float]] = [
            ("", (("ip_family", _FAMILIES[version]), ("traffic_policy", policy)), count)
            for (version, policy), count in without_local.items()
        ]
        text = "Service ports with a Local traffic policy and endpoints, but none on this node."
        name = f"{_PREFIX}proxy_rules_no_local_endpoints_total"
        return [*found, Metric(name, "gauge", text, tuple(samples)), *_answers(answers)]

    def _gauges(self, labels: list[Labels]) -> list[Metric]:
        times = {
            "last_timestamp": ("When the last pass ended; seconds since 1970.", self._done),
            "last_queued_timestamp": (
                "When what the last pass was for came in; seconds since 1970.",
                self._queued,
            ),
        }
        return [
            Metric(
                f"{_PREFIX}proxy_rules_{name}_seconds",
                "gauge",
                text,
                tuple(("", family, value) for family in labels) if value is not None else (),
            )
            for name, (text, value) in times.items()
        ]


def _answers(answers: Mapping[tuple[str, int], int]) -> list[Metric]:
    return [
        Metric(
            f"kubeproxy_proxy_{path}_total",
            "counter",
            f"Answers to /{path}, by code.",
            tuple(
                ("", (("code", str(code)),), count)
                for (asked, code), count in sorted(answers.items())
                if asked == path
            ),
        )
        for path in ("healthz", "livez")
    ]
