# SPDX-License-Identifier: Apache-2.0
"""What the agent asks of a source of cluster objects: files (manifests.py) or an API (kubernetes_api.py)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from kubypass.agent.options import Options
from kubypass.agent.source.config_map import ConfigMapSettings
from kubypass.api.metric import Metric
from kubypass.kube.client.writer import Subject
from kubypass.kube.snapshot import Snapshot
from kubypass.model.address import Address
from kubypass.model.problem import Problem
from kubypass.model.service import ServiceKey
from kubypass.settings.settings import Settings

Trigger = tuple[ServiceKey, str]
"""A service whose endpoints changed, and when the cause happened (RFC 3339)."""


class Source(Protocol):
    """Objects of the cluster. They change only when the owner calls `take`, which it does when `fd` is readable."""

    @property
    def fd(self) -> int:
        """A descriptor that is readable when a change has come."""

    @property
    def complete(self) -> bool:
        """Whether every object was seen once."""

    @property
    def changed_nodes(self) -> set[str]:
        """Nodes that changed since the owner last cleared this set."""

    def start(self) -> None:
        """Begins to watch."""

    def stop(self) -> None:
        """Ends the watch."""

    def snapshot(self) -> Snapshot:
        """Views of what is known."""

    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the objects, or keeps them from coming."""

    def take(self) -> set[ServiceKey]:
        """Takes in what has come; returns the services to plan again."""

    def scan(self) -> set[ServiceKey]:
        """Looks for changes that no event has reported; returns the services to plan again."""

    def take_pod_changes(self) -> bool:
        """Whether metadata of pods changed since the last call."""

    def take_triggers(self) -> list[Trigger]:
        """The triggers since the last call."""

    def use(self, settings: Settings) -> None:
        """Applies the settings of the source itself; they may be known later than the source."""

    def config_map(self, options: Options) -> ConfigMapSettings | None:
        """The settings that the source holds; None where the options take them from elsewhere."""

    def refuse_own_service(self, services: Iterable[Address], settings: Settings) -> None:
        """Raises ConfigError where the source itself is reached by the address of a service."""

    def announce(self, subject: Subject, reason: str, message: str, name: str = "") -> bool:
        """Adds an event to an object, where the source can keep one; False: not now."""

    def say_ready(self, taint_key: str) -> None:
        """Removes this taint from our node; the owner calls it again and again, as the taint may come back."""

    def status(self, *, started: bool) -> dict[str, object]:
        """How the connection is, for `kubypass status`."""

    def metrics(self) -> list[Metric]:
        """Metrics of the connection."""
