# SPDX-License-Identifier: Apache-2.0
"""What the API needs of an agent."""

from __future__ import annotations

from typing import Protocol

from kubypass.api.metric import Metric


class View(Protocol):
    """A read-only view of an agent. The server's threads call its methods."""

    def started(self) -> bool:
        """Whether the first sync is complete."""

    def status(self) -> dict[str, object]:
        """Everything that `kubypass status` shows."""

    def services(self) -> list[dict[str, object]]:
        """One row for each frontend: id, frontend, type, backends."""

    def metrics(self) -> list[Metric]:
        """Every metric."""

    def pods(self) -> list[dict[str, object]]:
        """One row for each pod of this node: namespace, name, addresses, device, connected."""

    def names(self) -> dict[str, object]:
        """Addresses by name: node (this node's name), nodes, services, pods."""

    def explain(self, number: int, chosen: int) -> dict[str, object] | None:
        """Why each endpoint of the service with this identifier is in one of its lists, or is not."""
