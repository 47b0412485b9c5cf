# SPDX-License-Identifier: Apache-2.0
"""Tells when the API goes and comes: a line for each new reason, not for each attempt."""

from __future__ import annotations

from kubypass.agent.log import log
from kubypass.kube.watch.api_source import ApiSource


class ConnectionLog:
    """Of one source; a source of another kind is never mentioned."""

    def __init__(self) -> None:
        self._told: str | None = None

    def look(self, source: object) -> None:
        """Says what is new."""
        if not isinstance(source, ApiSource) or source.connection.untried:
            return
        reason = source.connection.reason
        if reason == self._told:
            return
        self._told = reason
        server, version = source.client.server, source.client.version
        if reason:
            log("kubernetes API away", "WARNING", server=server, reason=reason)
        else:
            log("kubernetes API connected", server=server, version=version)
