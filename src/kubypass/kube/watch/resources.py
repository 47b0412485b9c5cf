# SPDX-License-Identifier: Apache-2.0
"""The API resources that the agent watches, and how it reads their objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec

from kubypass.kube import wire
from kubypass.kube.convert.converter import Converter
from kubypass.kube.convert.decode import Document, decode, summary
from kubypass.kube.convert.labels import label_selector
from kubypass.kube.convert.pod import convert_pod_metadata
from kubypass.kube.store import Object, ObjectKey
from kubypass.model.problem import Problem

TRIGGER_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"


@dataclass(frozen=True, slots=True)
class Resource:
    """One collection of the API."""

    name: str
    """The plural, as in paths and RBAC rules."""
    kind: str
    group: str = ""
    version: str = "v1"
    namespace: str = ""
    selectors: tuple[tuple[str, str], ...] = ()
    """`labelSelector` and `fieldSelector`."""
    title: str = ""
    """The name in messages and metrics; empty: `name`."""

    def __str__(self) -> str:
        return self.title or self.name

    @property
    def api_version(self) -> str:
        """The `apiVersion` of the objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, *query: tuple[str, str]) -> str:
        """The path of a request for the collection."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"
        namespace = f"/namespaces/{self.namespace}" if self.namespace else ""
        words = urlencode((*self.selectors, *query))
        return f"{root}{namespace}/{self.name}{'?' if words else ''}{words}"


class ObjectUpdate(NamedTuple):
    """The new state of one object of the API, as the model has it."""

    objects: tuple[tuple[ObjectKey, Object | None], ...]
    """None: the object is gone, or of no use. With a problem, None keeps the object's last state."""
    version: str
    """The `resourceVersion`."""
    problem: Problem | None = None
    trigger: str = ""
    """When the cause of a change of endpoints happened (annotation of EndpointSlices), RFC 3339."""


NODES = Resource("nodes", "Node")


def watched_resources(node: str, proxy_name: str) -> tuple[Resource, ...]:
    """The resources that a node's agent watches besides nodes. `proxy_name` is the setting `k8s-service-proxy-name`."""
    ours = (("labelSelector", label_selector(proxy_name)),)
    here = (("fieldSelector", f"spec.nodeName={node}"),)
    return (
        Resource("services", "Service", selectors=ours),
        Resource("endpointslices", "EndpointSlice", "discovery.k8s.io", selectors=ours),
        Resource("pods", "Pod", selectors=here),
    )


def read_object(
    resource: Resource, converter: Converter, content: msgspec.Raw, deleted: bool
) -> ObjectUpdate:
    """Reads an object of the resource. It cannot fail: what is wrong is in the update's problem."""
    notes: list[str] = []
    wanted = wire.KINDS[resource.api_version, resource.kind]
    source, key = decode(Document(resource.api_version, resource.kind, content), wanted, notes)
    if source is None or key is None:
        subject = f"{resource.kind} {'/'.join(filter(None, key[1:])) if key else 'without a name'}"
        unknown = ((key, None),) if key else ()
        return ObjectUpdate(unknown, "", Problem(subject, summary(notes)))
    metadata = source.metadata or wire.Metadata()
    version = metadata.resource_version or ""
    converted = None if deleted else converter.convert(source, notes)
    objects: tuple[tuple[ObjectKey, Object | None], ...] = ((key, converted),)
    if isinstance(source, wire.Pod):
        pod_metadata = None if deleted else convert_pod_metadata(source)
        objects = (*objects, (("PodMetadata", key[1], key[2]), pod_metadata))
    problem = with_notes(None, key, notes)
    trigger = (metadata.annotations or {}).get(TRIGGER_ANNOTATION, "")
    return ObjectUpdate(objects, version, problem, trigger)


def with_notes(problem: Problem | None, key: ObjectKey, notes: list[str]) -> Problem | None:
    """A problem of an object with further notes about it; None if there is nothing to tell."""
    if not notes:
        return problem
    if problem is not None:
        return Problem(problem.subject, f"{problem.message}; {summary(notes)}")
    return Problem(f"{key[0]} {'/'.join(filter(None, key[1:]))}", summary(notes))
