# SPDX-License-Identifier: Apache-2.0
"""Asks test pods through the API server: it reaches a pod on a node's network, which reaches the node's other pod.

So the operator's machine needs only the API, and the API server needs no route to pods.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode

from kubypass.connectivity.judge import Drops, parse_drops
from kubypass.connectivity.objects import HOST_PORT, NAMESPACE, PORT
from kubypass.connectivity.paths import Path
from kubypass.errors import KubeError
from kubypass.kube.client.rest import Rest

_METRICS_PORT = 10249
"""The metrics port of kube-proxy, and of kubypass unless metrics-bind-address differs."""
_LOOPBACK = ("127.0.0.1", "::1")
"""kube-proxy with the bindAddress :: (kubeadm's choice in IPv6-only clusters) listens on the second only."""


class Probe:
    """The pods of one test; `pods` maps letters to addresses."""

    def __init__(self, rest: Rest, token: str, pods: Mapping[str, str]) -> None:
        self._rest = rest
        self._token = token
        self._pods = pods

    def try_path(self, path: Path) -> dict[str, Any]:
        """Have the source try a path. Returns the source's report."""
        if path.protocol == "dns":
            return self._ask(path.source, "resolve", name=path.host)
        words = {
            "protocol": path.protocol,
            "host": path.host,
            "port": path.port,
            "tries": path.tries,
        }
        return self._ask(path.source, "dial", **words)

    def _ask(self, source: str, command: str, **words: object) -> dict[str, Any]:
        role, _, letter = source.partition("-")
        request = f"/{self._token}/{command}?{urlencode(words)}"
        try:
            if role == "pod":
                body = self._fetch(letter, self._pods[letter], PORT, request)
            else:
                body = self._get(letter, request)
            found: dict[str, Any] = json.loads(body)
        except KubeError as error:
            return {"failures": [f"{source} cannot be asked: {error.message}"]}
        return found

    def _get(self, letter: str, request: str) -> bytes:
        pod = f"/api/v1/namespaces/{NAMESPACE}/pods/host-{letter}:{HOST_PORT}"
        return self._rest.request(f"{pod}/proxy{request}")

    def _fetch(self, letter: str, host: str, port: int, request: str) -> bytes:
        words = urlencode({"host": host, "port": port, "path": request}, quote_via=quote)
        return self._get(letter, f"/{self._token}/fetch?{words}")

    def proxy(self, letter: str) -> str:
        """What serves services on a node.

        `ebpf` is kubypass, other words are kube-proxy's modes, and an empty text means that nothing answers.
        """
        return self._metrics_port_says(letter, "/proxyMode")

    def drops(self, letter: str) -> Drops:
        """The packets that the node's agent has dropped so far; none if no agent answers."""
        return parse_drops(self._metrics_port_says(letter, "/metrics"))

    def _metrics_port_says(self, letter: str, request: str) -> str:
        for host in _LOOPBACK:
            with suppress(KubeError):
                return self._fetch(letter, host, _METRICS_PORT, request).decode()
        return ""
