# SPDX-License-Identifier: Apache-2.0
"""Logs when the API goes away and comes back: one line for each new reason, not for each attempt."""

from __future__ import annotations

from kubypass.agent.log import log
from kubypass.kube.watch.api_source import ApiSource


class ConnectionLog:
    """Remembers the last reason that was logged."""

    def __init__(self) -> None:
        self._logged: str | None = None

    def look(self, source: ApiSource) -> None:
        """Logs a reason that is new."""
        if source.connection.untried:
            return
        reason = source.connection.reason
        if reason == self._logged:
            return
        self._logged = reason
        server, version = source.client.server, source.client.version
        if reason:
            log("kubernetes API away", "WARNING", server=server, reason=reason)
        else:
            log("kubernetes API connected", server=server, version=version)
