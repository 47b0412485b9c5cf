# SPDX-License-Identifier: Apache-2.0
"""Reads the Kubernetes objects that a user applies to a box.

Only what a box uses is checked; the object as written is kept beside it. Shapes follow the
Kubernetes API reference (apps/v1 Deployment, v1 Pod and Service, discovery.k8s.io/v1
EndpointSlice).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml

from kubypass.errors import ConfigError
from kubypass.model.address import parse_address
from kubypass.model.cidr import parse_cidr
from kubypass_lab.box.files import Json

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
NoneOrPort = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Protocol = Literal["TCP", "UDP", "SCTP"]
Policy = Literal["Cluster", "Local"]


class Metadata(msgspec.Struct, frozen=True):
    name: Name
    namespace: Name = "default"
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class ContainerPort(msgspec.Struct, frozen=True, rename="camel"):
    container_port: Port
    name: str = ""
    protocol: Protocol = "TCP"
    host_port: NoneOrPort = 0
    host_ip: str = msgspec.field(default="", name="hostIP")


class Container(msgspec.Struct, frozen=True):
    name: Name
    image: str
    ports: tuple[ContainerPort, ...] | None = None


class PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    containers: Annotated[tuple[Container, ...], msgspec.Meta(min_length=1)]
    node_name: str = ""
    runtime_class_name: str | None = None


class TemplateMetadata(msgspec.Struct, frozen=True):
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class PodTemplate(msgspec.Struct, frozen=True):
    spec: PodSpec
    metadata: TemplateMetadata = TemplateMetadata()


class LabelSelector(msgspec.Struct, frozen=True, rename="camel"):
    match_labels: dict[str, str] | None = None


class DeploymentSpec(msgspec.Struct, frozen=True):
    template: PodTemplate
    selector: LabelSelector
    replicas: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 1


class Deployment(msgspec.Struct, frozen=True):
    metadata: Metadata
    spec: DeploymentSpec


class Pod(msgspec.Struct, frozen=True):
    metadata: Metadata
    spec: PodSpec


class ServicePort(msgspec.Struct, frozen=True, rename="camel"):
    port: Port
    name: str = ""
    protocol: Protocol = "TCP"
    target_port: Port | str | None = None
    node_port: NoneOrPort = 0


class ClientIpConfig(msgspec.Struct, frozen=True, rename="camel"):
    timeout_seconds: Annotated[int, msgspec.Meta(ge=1, le=86400)] = 10800


class AffinityConfig(msgspec.Struct, frozen=True):
    client_ip: ClientIpConfig = msgspec.field(default=ClientIpConfig(), name="clientIP")


class ServiceSpec(msgspec.Struct, frozen=True):
    ports: tuple[ServicePort, ...] | None = None
    selector: dict[str, str] | None = None
    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    cluster_ip: str | None = msgspec.field(default=None, name="clusterIP")
    cluster_ips: tuple[str, ...] | None = msgspec.field(default=None, name="clusterIPs")
    families: tuple[Literal["IPv4", "IPv6"], ...] | None = msgspec.field(
        default=None, name="ipFamilies"
    )
    family_policy: Literal["SingleStack", "PreferDualStack", "RequireDualStack"] | None = (
        msgspec.field(default=None, name="ipFamilyPolicy")
    )
    allocate_node_ports: bool = msgspec.field(default=True, name="allocateLoadBalancerNodePorts")
    publish_not_ready: bool = msgspec.field(default=False, name="publishNotReadyAddresses")
    external_ips: tuple[str, ...] | None = msgspec.field(default=None, name="externalIPs")
    external_name: str = msgspec.field(default="", name="externalName")
    external_policy: Policy | None = msgspec.field(default=None, name="externalTrafficPolicy")
    internal_policy: Policy | None = msgspec.field(default=None, name="internalTrafficPolicy")
    health_check_port: NoneOrPort = msgspec.field(default=0, name="healthCheckNodePort")
    affinity: Literal["None", "ClientIP"] | None = msgspec.field(
        default=None, name="sessionAffinity"
    )
    affinity_config: AffinityConfig | None = msgspec.field(
        default=None, name="sessionAffinityConfig"
    )
    source_ranges: tuple[str, ...] | None = msgspec.field(
        default=None, name="loadBalancerSourceRanges"
    )
    distribution: Literal["PreferClose", "PreferSameZone", "PreferSameNode"] | None = msgspec.field(
        default=None, name="trafficDistribution"
    )

    @property
    def has_health_check(self) -> bool:
        """Whether load balancers ask each node if it has endpoints."""
        return self.type == "LoadBalancer" and self.external_policy == "Local"


class Ingress(msgspec.Struct, frozen=True, rename="camel"):
    ip: str = ""
    ip_mode: Literal["VIP", "Proxy"] = "VIP"


class LoadBalancer(msgspec.Struct, frozen=True):
    ingress: tuple[Ingress, ...] | None = None


class ServiceStatus(msgspec.Struct, frozen=True, rename="camel"):
    load_balancer: LoadBalancer = LoadBalancer()


class Service(msgspec.Struct, frozen=True):
    metadata: Metadata
    spec: ServiceSpec
    status: ServiceStatus = ServiceStatus()

    def external_addresses(self) -> tuple[str, ...]:
        """Addresses that nodes answer for: externalIPs, and those that a load balancer was given."""
        ingress = self.status.load_balancer.ingress or ()
        vips = (each.ip for each in ingress if each.ip and each.ip_mode == "VIP")
        return tuple(dict.fromkeys((*(self.spec.external_ips or ()), *vips)))


class EndpointPort(msgspec.Struct, frozen=True):
    """A port of an EndpointSlice."""

    port: Port | None = None
    name: str | None = None
    protocol: Protocol | None = None


class EndpointSlice(msgspec.Struct, frozen=True, rename="camel"):
    metadata: Metadata
    address_type: Literal["IPv4", "IPv6", "FQDN"]
    ports: tuple[EndpointPort, ...] | None = None


Object = Deployment | Pod | Service | EndpointSlice

# (API group, kind) -> its shape, and how kubectl names it.
KINDS: dict[tuple[str, str], tuple[type[Object], str]] = {
    ("apps", "Deployment"): (Deployment, "deployment.apps"),
    ("", "Pod"): (Pod, "pod"),
    ("", "Service"): (Service, "service"),
    ("discovery.k8s.io", "EndpointSlice"): (EndpointSlice, "endpointslice.discovery.k8s.io"),
}


# Field -> what it may be, where a type does not say it.
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
        """Unique among all objects; good as a file name."""
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
class Reading:
    """What was found in the files: objects, kinds that a box does not run, and what was wrong."""

    objects: list[Applied]
    skipped: list[str]
    errors: list[ConfigError]


def read_objects(paths: list[Path]) -> Reading:
    """Read all documents of all files; a wrong one does not keep the others from being read."""
    reading = Reading([], [], [])
    for path in paths:
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reading.errors.append(
                ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}")
            )
            continue
        try:
            for index, document in enumerate(yaml.load_all(text, Loader=_Loader), start=1):
                for raw in _flatten(document):
                    _read_object(raw, f"{path}, document {index}", reading)
        except yaml.YAMLError as error:
            reading.errors.append(ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}"))
    return reading


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


def _read_object(raw: object, where: str, reading: Reading) -> None:
    if raw is None:
        return
    if not isinstance(raw, dict) or not raw.get("kind"):
        reading.errors.append(
            ConfigError(f"{where}: expected a Kubernetes object with apiVersion and kind")
        )
        return
    try:
        applied = parse_object(raw, where)
    except ConfigError as error:
        reading.errors.append(error)
        return
    if applied is None:
        reading.skipped.append(f"{raw['kind']}/{_name_of(raw)}")
    else:
        reading.objects.append(applied)


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
        ("spec.loadBalancerSourceRanges", spec.source_ranges or (), parse_cidr),
        ("status.loadBalancer.ingress", service.external_addresses(), parse_address),
    ):
        for text in texts:
            try:
                parse(text)
            except ValueError as error:
                raise applied.wrong(field, str(error)) from error
    if spec.health_check_port and not spec.has_health_check:
        message = "only for type LoadBalancer with externalTrafficPolicy Local"
        raise applied.wrong("spec.healthCheckNodePort", message, "leave it out")
    if spec.type == "ExternalName":
        return
    ports = spec.ports or ()
    if not ports and spec.cluster_ip != "None":
        raise applied.wrong("spec.ports", "expected at least one port")
    names = [port.name for port in ports]
    if len(ports) > 1 and ("" in names or len(set(names)) != len(names)):
        raise applied.wrong("spec.ports", "each of several ports needs a name of its own")
    numbers = [(port.port, port.protocol) for port in ports]
    if len(set(numbers)) != len(numbers):
        raise applied.wrong("spec.ports", "the same port and protocol appears twice")


class _Loader(yaml.CSafeLoader):
    """Safe YAML, with dates left as text, as Kubernetes reads them."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own table, less one entry)
        first: [(tag, pattern) for tag, pattern in entries if tag != "tag:yaml.org,2002:timestamp"]
        for first, entries in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }
