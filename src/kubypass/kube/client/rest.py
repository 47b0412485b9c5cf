# SPDX-License-Identifier: Apache-2.0
"""Single objects of a cluster, as JSON, for commands that an operator runs: get, list, apply, delete, ask a pod.

The agent does not use this: it follows whole collections (`api_source`). Unreachable and Refused are raised.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from http.client import CONFLICT, NOT_FOUND
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from kubypass.errors import ConfigError
from kubypass.kube.client.client import Client
from kubypass.kube.client.failures import Refused, Unreachable
from kubypass.kube.client.kubeconfig import named_kubeconfigs, read_kubeconfig

Object = dict[str, Any]
APPLY = "application/apply-patch+yaml"
_MANAGER = "kubypass"
_PLURALS = {"EndpointSlice": "endpointslices", "NetworkPolicy": "networkpolicies"}
_CLUSTER_WIDE = frozenset({"Namespace", "Node", "ClusterRole", "ClusterRoleBinding"})


class Rest:
    """One cluster. For one thread."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def server(self) -> str:
        """The API server's host, as the operator reaches it."""
        return self._client.server.host

    @property
    def port(self) -> int:
        """Its port."""
        return self._client.server.port

    def ask(self, path: str, method: str = "GET", body: object = None, kind: str = "") -> bytes:
        """The answer's body. Another server is asked where one is not reached."""
        while True:
            server = self._client.server
            try:
                with self._client.connection() as connection:
                    content = json.dumps(body).encode() if body is not None else b""
                    answer = connection.read(connection.ask(path, method, content, kind))
            except Unreachable:
                if not self._client.fails(server):
                    raise
                continue
            self._client.works()
            return answer

    def get(self, path: str) -> Object | None:
        """An object; None where there is none."""
        try:
            found: Object = json.loads(self.ask(path))
        except Refused as refusal:
            if refusal.code == NOT_FOUND:
                return None
            raise
        return found

    def list(self, path: str, **options: str) -> list[Object]:
        """The items of a collection; empty where the API does not know it."""
        query = f"?{urlencode(options)}" if options else ""
        items = (self.get(path + query) or {}).get("items") or []
        return [each for each in items if isinstance(each, dict)]

    def apply(self, item: Object, *, dry_run: bool = False, force: bool = False) -> Object:
        """Server-side apply; Refused with 409 where another manager has set one of the fields."""
        options = {"fieldManager": _MANAGER, "fieldValidation": "Strict"}
        options |= {"force": "true"} if force else {}
        options |= {"dryRun": "All"} if dry_run else {}
        body = self.ask(f"{place(item)}?{urlencode(options)}", "PATCH", item, APPLY)
        applied: Object = json.loads(body)
        return applied

    def delete(self, path: str) -> bool:
        """Whether it was there. What belongs to it goes too, in the background."""
        try:
            self.ask(path, "DELETE", {"propagationPolicy": "Background"})
        except Refused as refusal:
            if refusal.code in {NOT_FOUND, CONFLICT}:
                return False
            raise
        return True


def open_cluster(kubeconfig: Path | None) -> Rest:
    """By a kubeconfig: the one given, KUBECONFIG's, or ~/.kube/config. ConfigError where there is none."""
    if kubeconfig is not None:
        return Rest(Client(read_kubeconfig([kubeconfig])))
    named = named_kubeconfigs(os.environ)
    paths = [path for path in named or [Path.home() / ".kube/config"] if path.exists()]
    if not paths:
        looked = ":".join(map(str, named)) or "~/.kube/config"
        raise ConfigError(
            f"{looked}: there is no kubeconfig", "give --kubeconfig, or set KUBECONFIG"
        )
    return Rest(Client(read_kubeconfig(paths)))


def place(item: Mapping[str, Any]) -> str:
    """The path of an object in the API."""
    kind, metadata = item["kind"], item["metadata"]
    plural = _PLURALS.get(kind, f"{kind.lower()}s")
    namespace = "" if kind in _CLUSTER_WIDE else f"/namespaces/{metadata['namespace']}"
    version = item["apiVersion"]
    return f"/{'apis' if '/' in version else 'api'}/{version}{namespace}/{plural}/{quote(metadata['name'])}"
