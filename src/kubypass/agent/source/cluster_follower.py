# SPDX-License-Identifier: Apache-2.0
"""Follows one source: what is new besides services, and what goes back to the cluster."""

from __future__ import annotations

from kubypass.agent.source.config_map import ConfigMapSettings
from kubypass.agent.source.source import Source
from kubypass.kube.client.writer import Subject
from kubypass.kube.snapshot import Snapshot
from kubypass.model.service import ServiceKey
from kubypass.plan.foreign_sources import may_send_foreign
from kubypass.plan.socket_lb import is_excluded
from kubypass.settings.settings import Settings

_API_SERVICE = ("default", "kubernetes")


class ClusterFollower:
    """Remembers what was last seen of one source. The loop's thread calls it."""

    def __init__(self, source: Source, config_map: ConfigMapSettings | None) -> None:
        self.source = source
        self.snapshot: Snapshot = source.snapshot()
        """Views: they show what the source takes in later, except its problems."""
        self.config_map = config_map
        """None where settings do not come from the cluster."""
        self._checked_api_service = False
        self._special: dict[ServiceKey, tuple[bool, bool]] = {}

    def refuse_own_service(self, settings: Settings) -> None:
        """Raises ConfigError once it is known that the API server's address is that of its service."""
        found = self.snapshot.services.get(_API_SERVICE)
        if found and not self._checked_api_service:
            self.source.refuse_own_service(found.cluster_ips, settings)
            self._checked_api_service = True

    def treats_pods_differently(self, settings: Settings) -> bool:
        """Whether pods' metadata now excludes others from socket load balancing, or lets others send as they like."""
        if not self.source.take_pod_changes():
            return False
        metadata = self.snapshot.pod_metadata.items()
        before = self._special
        marks = (
            (key, (is_excluded(found, settings), may_send_foreign(found)))
            for key, found in metadata
        )
        self._special = {key: mark for key, mark in marks if any(mark)}
        return self._special != before

    def settings(self, present: Settings) -> Settings:
        """The settings in use, with the changes of the cluster that take effect at once."""
        if self.config_map is None or not self.config_map.changed:
            return present
        return self.config_map.look(present)

    def announce(self, key: ServiceKey, reason: str, message: str) -> None:
        """Adds an event to a service that still exists."""
        service = self.snapshot.services.get(key)
        if service is not None:
            self.source.announce(Subject("Service", *key, service.uid), reason, message)
