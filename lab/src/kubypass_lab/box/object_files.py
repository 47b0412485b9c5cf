# SPDX-License-Identifier: Apache-2.0
"""Reads the objects that a user applies to a box. Each object is also kept as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kubypass.errors import ConfigError
from kubypass.kube.convert.decode import MalformedError
from kubypass.kube.manifests.documents import yaml_values
from kubypass.model.address import parse_address
from kubypass.model.cidr import parse_cidr
from kubypass_lab.box.files import Json
from kubypass_lab.box.objects import KINDS, Deployment, Object, Service

# The values that a field accepts, where the type's error message does not name them.
ALLOWED = {
    "name": "lower-case letters, digits, - and .",
    "namespace": "lower-case letters, digits, - and .",
    "protocol": "TCP, UDP or SCTP",
    "type": "ClusterIP, NodePort, LoadBalancer or ExternalName",
    "ipFamilies": "IPv4 and IPv6",
    "externalTrafficPolicy": "Cluster or Local",
    "internalTrafficPolicy": "Cluster or Local",
    "sessionAffinity": "None or ClientIP",
    "trafficDistribution": "PreferClose, PreferSameZone or PreferSameNode",
    "ipMode": "VIP or Proxy",
    "ipFamilyPolicy": "SingleStack, PreferDualStack or RequireDualStack",
    "addressType": "IPv4, IPv6 or FQDN",
}


@dataclass(frozen=True, slots=True)
class Applied:
    """One object as the user wrote it."""

    object: Object
    raw: Json
    resource: str  # as kubectl names it: deployment.apps, service, …
    where: str  # file and document, for errors

    @property
    def key(self) -> str:
        """A name that is unique among all objects and is valid as a file name."""
        metadata = self.object.metadata
        return f"{self.resource}_{metadata.namespace}_{metadata.name}"

    def wrong(self, field: str, message: str, hint: str = "") -> ConfigError:
        """An error that names this object, one of its fields, and what is wrong with it."""
        metadata = self.object.metadata
        subject = f"{self.where}: {self.resource} {metadata.namespace}/{metadata.name}"
        return (
            ConfigError(f"{subject}: {field}: {message}", hint)
            if hint
            else ConfigError(f"{subject}: {field}: {message}")
        )


@dataclass(slots=True)
class ParsedObjects:
    """The content of the files: objects, kinds that a box does not run, and errors."""

    objects: list[Applied]
    skipped: list[str]
    errors: list[ConfigError]


def read_objects(paths: list[Path]) -> ParsedObjects:
    """Read all documents of all files. An error in one does not prevent the others from being read."""
    parsed = ParsedObjects([], [], [])
    for path in paths:
        try:
            for index, document in enumerate(yaml_values(path.read_bytes()), start=1):
                for raw in _flatten(document):
                    _read_object(raw, f"{path}, document {index}", parsed)
        except OSError as error:
            parsed.errors.append(ConfigError(f"{path}: {error.strerror}"))
        except MalformedError as error:
            parsed.errors.append(ConfigError(f"{path}: {error}"))
    return parsed


def parse_object(raw: Json, where: str) -> Applied | None:
    """Parse one object; None if a box does not run its kind. ConfigError names the wrong field."""
    group = str(raw.get("apiVersion") or "").rpartition("/")[0]
    found = KINDS.get((group, str(raw.get("kind"))))
    if found is None:
        return None
    shape, resource = found
    try:
        applied = Applied(msgspec.convert(raw, shape), raw, resource, where)
    except msgspec.ValidationError as error:
        message, _, field = str(error).partition(" - at `$")
        field = field.strip("`.") or "object"
        allowed = ALLOWED.get(field.rpartition(".")[2].partition("[")[0], "")
        subject = f"{where}: {resource} {_name_of(raw)}: {field}"
        raise ConfigError(f"{subject}: {message.partition(' matching')[0]}", allowed) from error
    _check(applied)
    return applied


def selects(selector: dict[str, str] | None, labels: dict[str, str]) -> bool:
    """Whether a Service with `selector` takes a pod with `labels`; without one it takes none."""
    return bool(selector) and all(
        labels.get(key) == value for key, value in (selector or {}).items()
    )


def _read_object(raw: object, where: str, parsed: ParsedObjects) -> None:
    if raw is None:
        return
    if not isinstance(raw, dict) or not raw.get("kind"):
        parsed.errors.append(
            ConfigError(f"{where}: expected a Kubernetes object with apiVersion and kind")
        )
        return
    try:
        applied = parse_object(raw, where)
    except ConfigError as error:
        parsed.errors.append(error)
        return
    if applied is None:
        parsed.skipped.append(f"{raw['kind']}/{_name_of(raw)}")
    else:
        parsed.objects.append(applied)


def _flatten(document: object) -> Iterator[object]:
    """The items of a `kind: List`, or the document itself."""
    if isinstance(document, dict) and str(document.get("kind", "")).endswith("List"):
        items = document.get("items")
        yield from items if isinstance(items, list) else []
    else:
        yield document


def _name_of(raw: Json) -> str:
    metadata = raw.get("metadata")
    return str(metadata.get("name", "?")) if isinstance(metadata, dict) else "?"


def _check(applied: Applied) -> None:
    each = applied.object
    if isinstance(each, Deployment):
        wanted = each.spec.selector.match_labels or {}
        if not selects(wanted, each.spec.template.metadata.labels or {}):
            raise applied.wrong(
                "spec.selector", "does not match spec.template.metadata.labels", "make them equal"
            )
    if isinstance(each, Service):
        _check_service(applied, each)


def _check_service(applied: Applied, service: Service) -> None:
    spec = service.spec
    for field, texts, parse in (
        ("spec.externalIPs", spec.external_ips or (), parse_address),
        ("spec.loadBalancerSourceRanges", spec.load_balancer_source_ranges or (), parse_cidr),
        ("status.loadBalancer.ingress", service.external_addresses(), parse_address),
    ):
        for text in texts:
            try:
                parse(text)
            except ValueError as error:
                raise applied.wrong(field, str(error)) from error
    if spec.health_check_node_port and not spec.has_health_check:
        message = "only for type LoadBalancer with externalTrafficPolicy Local"
        raise applied.wrong("spec.healthCheckNodePort", message, "leave it out")
    if spec.type == "ExternalName":
        return
    ports = spec.ports or ()
    if not ports and spec.cluster_ip != "None":
        raise applied.wrong("spec.ports", "expected at least one port")
    names = [port.name for port in ports]
    if len(ports) > 1 and ("" in names or len(set(names)) != len(names)):
        raise applied.wrong("spec.ports", "each of several ports needs a different name")
    numbers = [(port.port, port.protocol) for port in ports]
    if len(set(numbers)) != len(numbers):
        raise applied.wrong("spec.ports", "the same port and protocol appears twice")
