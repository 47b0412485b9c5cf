# SPDX-License-Identifier: Apache-2.0
"""API discovery: the resource name (plural) of a kind, and whether its objects have a namespace.

The server lists the resources of an API version at `/api/v1` or `/apis/<group>/<version>` (`APIResourceList`). Plurals
are not guessed from kinds: a wrong one gives 404 Not Found, as if the object did not exist.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from kubypass.errors import KubeError


class ApiResource(msgspec.Struct, gc=False, frozen=True):
    """A resource as discovery lists it."""

    name: str
    """The plural. Names of subresources have a slash (`pods/status`)."""
    kind: str
    namespaced: bool = False


class _ApiResourceList(msgspec.Struct, gc=False):
    resources: list[ApiResource] | None = None


class Discovery:
    """The resources of one cluster. Each API version is asked for once."""

    def __init__(self, get: Callable[[str], bytes | None]) -> None:
        """`get` returns the body at a path; None for 404 Not Found."""
        self._get = get
        self._by_kind: dict[str, dict[str, ApiResource] | None] = {}

    def resource(self, api_version: str, kind: str) -> ApiResource:
        """The resource of a kind. Raises KubeError if the server does not know the kind or its API version."""
        if api_version not in self._by_kind:
            self._by_kind[api_version] = self._read(api_version)
        by_kind = self._by_kind[api_version]
        if by_kind is None:
            raise KubeError(
                f"{kind}: the API server does not serve {api_version}",
                "compare kubectl api-versions",
            )
        if kind not in by_kind:
            raise KubeError(
                f"{kind}: the API server knows no such kind in {api_version}",
                f"compare kubectl api-resources --api-group={api_version.rpartition('/')[0]}",
            )
        return by_kind[kind]

    def _read(self, api_version: str) -> dict[str, ApiResource] | None:
        """The resources of an API version by kind, without subresources; None if the server does not serve it."""
        path = version_path(api_version)
        body = self._get(path)
        if body is None:
            return None
        try:
            listed = msgspec.json.decode(body, type=_ApiResourceList).resources or ()
        except msgspec.DecodeError as error:
            raise KubeError(f"{path}: no list of API resources: {error}") from None
        return {each.kind: each for each in listed if "/" not in each.name}


def version_path(api_version: str) -> str:
    """The path below which an API version is served."""
    return f"/{'apis' if '/' in api_version else 'api'}/{api_version}"
