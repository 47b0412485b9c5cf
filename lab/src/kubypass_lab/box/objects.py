# SPDX-License-Identifier: Apache-2.0
"""The kinds of Kubernetes objects that a box runs, with the checks of an API server.

`kube.wire` declares the same objects for agents, which accept everything that a cluster may hold. The types follow
the Kubernetes API reference (apps/v1 Deployment, v1 Pod and Service, discovery.k8s.io/v1 EndpointSlice).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

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


class ServiceSpec(msgspec.Struct, frozen=True, rename="camel"):
    ports: tuple[ServicePort, ...] | None = None
    selector: dict[str, str] | None = None
    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    cluster_ip: str | None = msgspec.field(default=None, name="clusterIP")
    cluster_ips: tuple[str, ...] | None = msgspec.field(default=None, name="clusterIPs")
    ip_families: tuple[Literal["IPv4", "IPv6"], ...] | None = None
    ip_family_policy: Literal["SingleStack", "PreferDualStack", "RequireDualStack"] | None = None
    allocate_load_balancer_node_ports: bool = True
    publish_not_ready_addresses: bool = False
    external_ips: tuple[str, ...] | None = msgspec.field(default=None, name="externalIPs")
    external_name: str = ""
    external_traffic_policy: Policy | None = None
    internal_traffic_policy: Policy | None = None
    health_check_node_port: NoneOrPort = 0
    session_affinity: Literal["None", "ClientIP"] | None = None
    session_affinity_config: AffinityConfig | None = None
    load_balancer_source_ranges: tuple[str, ...] | None = None
    traffic_distribution: Literal["PreferClose", "PreferSameZone", "PreferSameNode"] | None = None

    @property
    def has_health_check(self) -> bool:
        """Whether load balancers ask each node for local endpoints."""
        return self.type == "LoadBalancer" and self.external_traffic_policy == "Local"


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
        """The external addresses that nodes answer for: externalIPs and addresses of load balancers."""
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

# (API group, kind) -> the type, and kubectl's name for it.
KINDS: dict[tuple[str, str], tuple[type[Object], str]] = {
    ("apps", "Deployment"): (Deployment, "deployment.apps"),
    ("", "Pod"): (Pod, "pod"),
    ("", "Service"): (Service, "service"),
    ("discovery.k8s.io", "EndpointSlice"): (EndpointSlice, "endpointslice.discovery.k8s.io"),
}
