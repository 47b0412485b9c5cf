# SPDX-License-Identifier: Apache-2.0
"""A cluster's API as the agent's source: follows objects, and writes events and the node's taint."""

from __future__ import annotations

from collections.abc import Iterable

from kubypass.agent.options import Options
from kubypass.agent.report.kubernetes import kubernetes_metrics, kubernetes_status
from kubypass.agent.source.api_access import refuse_own_service, servers_of
from kubypass.agent.source.config_map import ConfigMapSettings
from kubypass.agent.source.connection_log import ConnectionLog
from kubypass.agent.source.source import Trigger
from kubypass.api.metric import Metric
from kubypass.kube.client.writer import Subject
from kubypass.kube.config_maps import parse_name
from kubypass.kube.snapshot import Snapshot
from kubypass.kube.watch.api_source import ApiSource
from kubypass.model.address import Address
from kubypass.model.problem import Problem
from kubypass.model.service import ServiceKey
from kubypass.settings.parse import NS_PER_S
from kubypass.settings.settings import Settings


class KubernetesApi:
    """A Source (see source.py) on top of kube's ApiSource, with what the settings mean for it."""

    def __init__(self, api: ApiSource) -> None:
        self._api = api
        self._log = ConnectionLog()

    @property
    def fd(self) -> int:
        """A descriptor that is readable when a change has come."""
        return self._api.fd

    @property
    def complete(self) -> bool:
        """Whether everything was listed once."""
        return self._api.complete

    @property
    def changed_nodes(self) -> set[str]:
        """Nodes that changed since the owner last cleared this set."""
        return self._api.changed_nodes

    def start(self) -> None:
        """Begins to list and to watch."""
        self._api.start()

    def stop(self) -> None:
        """Ends every connection."""
        self._api.stop()

    def snapshot(self) -> Snapshot:
        """Views of what is known."""
        return self._api.snapshot()

    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the objects, or keeps them from coming."""
        return self._api.problems()

    def take(self) -> set[ServiceKey]:
        """Takes in what has come, and logs when the API went away or came back."""
        changed = self._api.take()
        self._log.look(self._api)
        return changed

    def scan(self) -> set[ServiceKey]:
        """Finds nothing: a change that a watch missed is found when the watch begins again."""
        return self._api.scan()

    def take_pod_changes(self) -> bool:
        """Whether metadata of pods changed since the last call."""
        changed, self._api.changed_pods = self._api.changed_pods, False
        return changed

    def take_triggers(self) -> list[Trigger]:
        """The triggers since the last call."""
        triggers, self._api.triggers = self._api.triggers, []
        return triggers

    def use(self, settings: Settings) -> None:
        """Applies the servers, the proxy's name and the heartbeat of the settings."""
        access = self._api.client.access.with_servers(servers_of(settings))
        refuse_own_service(access, (), settings)
        self._api.client.use(access)
        self._api.proxy_name = settings.services.proxy_name
        self._api.heartbeat.timeout_s = settings.kubernetes.heartbeat_timeout_ns / NS_PER_S

    def config_map(self, options: Options) -> ConfigMapSettings | None:
        """The settings of the ConfigMap that the options name."""
        if not options.config_map:
            return None
        name = parse_name(options.config_map, options.node_configs)
        return ConfigMapSettings(name, self._api, options.overrides, options.run)

    def refuse_own_service(self, services: Iterable[Address], settings: Settings) -> None:
        """Raises ConfigError where an API server has the address of one of these services."""
        refuse_own_service(self._api.client.access, services, settings)

    def announce(self, subject: Subject, reason: str, message: str, name: str = "") -> bool:
        """Writes an event about an object; False while the API is away, or has got enough for now."""
        away = bool(self._api.connection.reason)
        return not away and self._api.writer.event(subject, reason, message, name)

    def say_ready(self, taint_key: str) -> None:
        """Removes this taint from our node, if it is there."""
        self._api.remove_taint(taint_key)
        self._api.writer.retry()

    def status(self, *, started: bool) -> dict[str, object]:
        """How the connection is."""
        return kubernetes_status(self._api, started=started)

    def metrics(self) -> list[Metric]:
        """Requests, events, lists and failovers."""
        return kubernetes_metrics(self._api)
