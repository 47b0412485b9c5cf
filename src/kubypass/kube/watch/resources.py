# SPDX-License-Identifier: Apache-2.0
"""What is followed in the API, and how its objects are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec

from kubypass.kube import wire
from kubypass.kube.convert.pod import convert_traits
from kubypass.kube.convert.service import HEADLESS_LABEL, PROXY_NAME_LABEL
from kubypass.kube.manifests.documents import Document
from kubypass.kube.manifests.parser import Object, ObjectKey, Reading, decode, summary
from kubypass.model.problem import Problem

TRIGGER_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"


@dataclass(frozen=True, slots=True)
class Resource:
    """One collection of the API."""

    name: str
    """Plural, as in paths and RBAC rules."""
    kind: str
    group: str = ""
    version: str = "v1"
    namespace: str = ""
    selectors: tuple[tuple[str, str], ...] = ()
    """`labelSelector` and `fieldSelector`."""
    title: str = ""
    """How it is called where that is not its name."""

    def __str__(self) -> str:
        return self.title or self.name

    @property
    def api_version(self) -> str:
        """As objects say it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, *query: tuple[str, str]) -> str:
        """Of a request for the collection."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"
        place = f"/namespaces/{self.namespace}" if self.namespace else ""
        words = urlencode((*self.selectors, *query))
        return f"{root}{place}/{self.name}{'?' if words else ''}{words}"


class Item(NamedTuple):
    """What one object says, or that it is gone."""

    objects: tuple[tuple[ObjectKey, Object | None], ...]
    """None: it is gone, or of no use; with a problem, what it said last is kept."""
    version: str
    """resourceVersion"""
    problem: Problem | None = None
    trigger: str = ""
    """When what made the endpoints change happened (annotation of EndpointSlices), RFC 3339."""


NODES = Resource("nodes", "Node")


def followed(node: str, proxy_name: str) -> tuple[Resource, ...]:
    """What the agent of a node follows besides nodes; `proxy_name` as the setting `k8s-service-proxy-name`."""
    name = f"{PROXY_NAME_LABEL}={proxy_name}" if proxy_name else f"!{PROXY_NAME_LABEL}"
    ours = (("labelSelector", f"{name},!{HEADLESS_LABEL}"),)
    here = (("fieldSelector", f"spec.nodeName={node}"),)
    return (
        Resource("services", "Service", selectors=ours),
        Resource("endpointslices", "EndpointSlice", "discovery.k8s.io", selectors=ours),
        Resource("pods", "Pod", selectors=here),
    )


def read_item(resource: Resource, reading: Reading, content: msgspec.Raw, gone: bool) -> Item:
    """An object of the resource; cannot fail."""
    notes: list[str] = []
    wanted = wire.KINDS[resource.api_version, resource.kind]
    source, key = decode(Document(resource.api_version, resource.kind, content), wanted, notes)
    if source is None or key is None:
        subject = f"{resource.kind} {'/'.join(filter(None, key[1:])) if key else 'without a name'}"
        unknown = ((key, None),) if key else ()
        return Item(unknown, "", Problem(subject, summary(notes)))
    metadata = source.metadata or wire.Metadata()
    version = metadata.resource_version or ""
    converted = None if gone else reading.convert(source, notes)
    objects: tuple[tuple[ObjectKey, Object | None], ...] = ((key, converted),)
    if isinstance(source, wire.Pod):
        traits = None if gone else convert_traits(source)
        objects = (*objects, (("PodTraits", key[1], key[2]), traits))
    problem = None
    if notes:
        problem = Problem(f"{resource.kind} {'/'.join(filter(None, key[1:]))}", summary(notes))
    trigger = (metadata.annotations or {}).get(TRIGGER_ANNOTATION, "")
    return Item(objects, version, problem, trigger)
