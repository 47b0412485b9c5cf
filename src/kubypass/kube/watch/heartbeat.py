# SPDX-License-Identifier: Apache-2.0
"""A thread that checks silent connections, and asks which permissions are missing after a refusal."""

from __future__ import annotations

import threading
from collections.abc import Callable

from kubypass.errors import KubeError
from kubypass.kube.client.client import Client
from kubypass.kube.client.permissions import CLUSTER_RULES, config_rules, missing, missing_message
from kubypass.kube.config_maps import ConfigMapName

TIMEOUT_S = 30.0
_INTERVAL_S = 1.0


class Heartbeat(threading.Thread):
    """Runs until `stop` is called. The other end of a silent connection may be gone without a word, so it is probed."""

    def __init__(
        self,
        client: Client,
        config: ConfigMapName | None,
        is_connected: Callable[[], bool],
        report_denied: Callable[[str], None],
    ) -> None:
        super().__init__(name="kube-heartbeat", daemon=True)
        self.timeout_s = TIMEOUT_S
        """A connection that is silent for longer is probed."""
        self._client = client
        self._config = config
        self._is_connected = is_connected
        self._report_denied = report_denied
        self._stopped = False
        self._wake = threading.Event()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped = True
        self._wake.set()

    def ask_permissions(self) -> None:
        """The thread asks the server soon which permissions are missing, and reports them."""
        self._wake.set()

    def run(self) -> None:
        """Probes silent servers, and one whose version is not known."""
        while not self._stopped:
            asked = self._wake.wait(_INTERVAL_S)
            if self._stopped:
                return
            if asked:
                self._find_missing_permissions()
            silent = self._client.silent(self.timeout_s)
            if self._client.version is None and self._is_connected():
                silent.add(self._client.server)
            for server in silent:
                self._client.probe(server)

    def _find_missing_permissions(self) -> None:
        try:
            with self._client.connection() as connection:
                rules = missing(connection, CLUSTER_RULES)
                namespace = self._config.namespace if self._config else ""
                needed = config_rules(self._config.names) if self._config else ()
                of_config = missing(connection, needed, namespace)
        except KubeError:
            return  # the next refusal asks again
        finally:
            self._wake.clear()
        if rules or of_config:
            self._report_denied(missing_message(rules, of_config, namespace))
