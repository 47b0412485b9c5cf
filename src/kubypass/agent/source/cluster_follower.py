# SPDX-License-Identifier: Apache-2.0
"""The agent's side of its source: what is new besides services, and what goes back to the cluster."""

from __future__ import annotations

from kubypass.agent.source.api_access import refuse_own_service
from kubypass.agent.source.config_map import ConfigMapSettings
from kubypass.agent.source.connection_log import ConnectionLog
from kubypass.agent.source.source import Source
from kubypass.kube.client.writer import Subject
from kubypass.kube.snapshot import Snapshot
from kubypass.kube.watch.api_source import ApiSource
from kubypass.model.service import ServiceKey
from kubypass.plan.socket_lb import is_excluded
from kubypass.settings.settings import Settings


class Following:
    """Of one source. Called by the loop's thread."""

    def __init__(self, source: Source, configuration: ConfigMapSettings | None) -> None:
        self.source = source
        self.snapshot: Snapshot = source.snapshot()
        """Views: what the source takes in later is seen in it, but for its problems."""
        self.configuration = configuration
        """None where settings are not the cluster's."""
        self._log = ConnectionLog()
        self._knows_api = False
        self._excluded: set[ServiceKey] = set()

    def take(self) -> set[ServiceKey]:
        """Takes in what has come; services to plan anew."""
        dirty = self.source.take()
        self._log.look(self.source)
        return dirty

    def refuse_own_service(self, settings: Settings) -> None:
        """ConfigError once it is known that the API server's address is that of its service."""
        found = self.snapshot.services.get(("default", "kubernetes"))
        if found and not self._knows_api and isinstance(self.source, ApiSource):
            refuse_own_service(self.source.client.access, found.cluster_ips, settings)
            self._knows_api = True

    def excludes_others(self, settings: Settings) -> bool:
        """Whether other pods' sockets are to be left alone than before, by what the cluster says of the pods."""
        if not self.source.changed_pods:
            return False
        self.source.changed_pods = False
        traits = self.snapshot.traits.items()
        before = self._excluded
        self._excluded = {key for key, found in traits if is_excluded(found, settings)}
        return self._excluded != before

    def settings(self, present: Settings) -> Settings:
        """Those in use, changed where the cluster's changed and take effect at once."""
        if self.configuration is None or not self.configuration.changed:
            return present
        return self.configuration.look(present)

    def announce(self, key: ServiceKey, reason: str, message: str) -> None:
        """An event about a service, where there is a cluster to have it."""
        service = self.snapshot.services.get(key)
        if service is not None and isinstance(self.source, ApiSource):
            self.source.writer.event(Subject("Service", *key, service.uid), reason, message)

    def say_ready(self, settings: Settings) -> None:
        """Takes the taint of a node that is not ready away; to be called again: it may come back."""
        if isinstance(self.source, ApiSource):
            self.source.remove_taint(settings.kubernetes.not_ready_taint_key)
