# SPDX-License-Identifier: Apache-2.0
"""Single objects as JSON, for commands that an operator runs: get, list, apply, delete, requests to a pod.

The agent does not use this: it watches whole resources (`watch.api_source`). Requests raise Unreachable and Refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from http.client import CONFLICT, NOT_FOUND
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from kubypass.errors import ConfigError, KubeError
from kubypass.kube.client.client import Client
from kubypass.kube.client.discovery import Discovery, version_path
from kubypass.kube.client.failures import Refused, Unreachable
from kubypass.kube.client.kubeconfig import named_kubeconfigs, read_kubeconfig

Object = dict[str, Any]
APPLY = "application/apply-patch+yaml"
_MANAGER = "kubypass"


class Rest:
    """Requests to one cluster. One thread uses it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._discovery = Discovery(self._find)

    @property
    def server(self) -> str:
        """The host of the API server in use."""
        return self._client.server.host

    @property
    def port(self) -> int:
        """The port of the API server in use."""
        return self._client.server.port

    def request(self, path: str, method: str = "GET", body: object = None, kind: str = "") -> bytes:
        """Sends a request and returns the body of the response. If a server is not reached, the next one is tried."""
        while True:
            server = self._client.server
            try:
                with self._client.connection() as connection:
                    content = json.dumps(body).encode() if body is not None else b""
                    response = connection.request(path, method, content, kind)
                    answer = connection.read(response)
            except Unreachable:
                if not self._client.fail_over(server):
                    raise
                continue
            self._client.answered()
            return answer

    def get(self, path: str) -> Object | None:
        """The object at a path; None if there is none."""
        body = self._find(path)
        found: Object | None = None if body is None else json.loads(body)
        return found

    def _find(self, path: str) -> bytes | None:
        try:
            return self.request(path)
        except Refused as refusal:
            if refusal.code == NOT_FOUND:
                return None
            raise

    def list(self, path: str, **options: str) -> list[Object]:
        """The objects of a resource; empty if the API does not know the path."""
        query = f"?{urlencode(options)}" if options else ""
        items = (self.get(path + query) or {}).get("items") or []
        return [each for each in items if isinstance(each, dict)]

    def apply(self, item: Object, *, dry_run: bool = False, force: bool = False) -> Object:
        """Server-side apply. Raises Refused with 409 if another manager owns one of the fields."""
        options = {"fieldManager": _MANAGER, "fieldValidation": "Strict"}
        options |= {"force": "true"} if force else {}
        options |= {"dryRun": "All"} if dry_run else {}
        body = self.request(f"{self.path_of(item)}?{urlencode(options)}", "PATCH", item, APPLY)
        applied: Object = json.loads(body)
        return applied

    def delete(self, path: str) -> bool:
        """Deletes an object, and its dependents in the background. Returns whether it existed."""
        try:
            self.request(path, "DELETE", {"propagationPolicy": "Background"})
        except Refused as refusal:
            if refusal.code in {NOT_FOUND, CONFLICT}:
                return False
            raise
        return True

    def knows(self, item: Mapping[str, Any]) -> bool:
        """Whether the API server knows the kind of an object."""
        try:
            self._discovery.resource(item["apiVersion"], item["kind"])
        except KubeError:
            return False
        return True

    def path_of(self, item: Mapping[str, Any]) -> str:
        """The path of an object. Raises KubeError if the API server does not know its kind."""
        metadata = item["metadata"]
        resource = self._discovery.resource(item["apiVersion"], item["kind"])
        namespace = f"/namespaces/{metadata['namespace']}" if resource.namespaced else ""
        return f"{version_path(item['apiVersion'])}{namespace}/{resource.name}/{quote(metadata['name'])}"


def open_cluster(kubeconfig: Path | None) -> Rest:
    """Opens the cluster of a kubeconfig: the one given, KUBECONFIG's, or ~/.kube/config. Raises ConfigError."""
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
