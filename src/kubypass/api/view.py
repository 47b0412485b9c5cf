# SPDX-License-Identifier: Apache-2.0
"""What the API needs of an agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kubypass.api.metric import Metric


class View(Protocol):
    """A read-only view; its methods are called from the API's threads."""

    def healthy(self) -> bool:
        """After the first complete sync."""

    def status(self) -> dict[str, object]:
        """Everything that `kubypass status` shows."""

    def services(self) -> list[dict[str, object]]:
        """A row a frontend: id, frontend, type, backends."""

    def counters(self) -> list[tuple[str, str, int, int]]:
        """(hook, verdict, packets, bytes)."""

    def gauges(self) -> dict[str, float]:
        """Other numbers, by name."""

    def snat_metrics(self) -> list[Metric]:
        """Where source ports ran out."""

    def proxy_metrics(self) -> list[Metric]:
        """Metrics with labels: kube-proxy's, and those of sockets."""

    def names(self) -> dict[str, object]:
        """Addresses by name: node (our own name), nodes, services, pods."""

    def explain(self, number: int, chosen: int) -> dict[str, object] | None:
        """A service by its identifier: why each endpoint is in one of its lists, or is not."""
