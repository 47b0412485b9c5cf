# SPDX-License-Identifier: Apache-2.0
"""Kubernetes objects as JSON and YAML have them: only the fields that are used, named as in the API.

Any field may be missing or null, as in hand-written manifests and in dumps. Decoding fails for types that Kubernetes
refuses (a port in quotes), and names the field.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

Integer = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
"""The API's int32. An object with a larger number cannot be decoded."""


class Metadata(msgspec.Struct, gc=False, rename="camel"):
    """`metadata` of every object."""

    name: str = ""
    namespace: str | None = None
    uid: str | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    resource_version: str | None = None


class ServicePort(msgspec.Struct, gc=False, rename="camel"):
    """`spec.ports[]` of a Service."""

    port: Integer = 0
    name: str | None = None
    protocol: str | None = None
    node_port: Integer | None = None


class ClientIpConfig(msgspec.Struct, gc=False, rename="camel"):
    """`spec.sessionAffinityConfig.clientIP` of a Service."""

    timeout_seconds: Integer | None = None


class AffinityConfig(msgspec.Struct, gc=False):
    """`spec.sessionAffinityConfig` of a Service."""

    client_ip: ClientIpConfig | None = msgspec.field(default=None, name="clientIP")


class ServiceSpec(msgspec.Struct, gc=False, rename="camel"):
    """`spec` of a Service."""

    type: str | None = None
    cluster_ip: str | None = msgspec.field(default=None, name="clusterIP")
    cluster_ips: list[str] | None = msgspec.field(default=None, name="clusterIPs")
    ip_families: list[str] | None = None
    external_ips: list[str] | None = msgspec.field(default=None, name="externalIPs")
    ports: list[ServicePort] | None = None
    external_traffic_policy: str | None = None
    internal_traffic_policy: str | None = None
    session_affinity: str | None = None
    session_affinity_config: AffinityConfig | None = None
    load_balancer_source_ranges: list[str] | None = None
    health_check_node_port: Integer | None = None


class Ingress(msgspec.Struct, gc=False, rename="camel"):
    """`status.loadBalancer.ingress[]` of a Service."""

    ip: str | None = None
    ip_mode: str | None = None


class LoadBalancer(msgspec.Struct, gc=False):
    """`status.loadBalancer` of a Service."""

    ingress: list[Ingress] | None = None


class ServiceStatus(msgspec.Struct, gc=False, rename="camel"):
    """`status` of a Service."""

    load_balancer: LoadBalancer | None = None


class Service(msgspec.Struct, gc=False, rename="camel"):
    """`v1` Service."""

    api_version: str | None = None
    metadata: Metadata | None = None
    spec: ServiceSpec | None = None
    status: ServiceStatus | None = None


class SlicePort(msgspec.Struct, gc=False):
    """`ports[]` of an EndpointSlice."""

    name: str | None = None
    protocol: str | None = None
    port: Integer | None = None


class Conditions(msgspec.Struct, gc=False):
    """`endpoints[].conditions` of an EndpointSlice. Null is not false: see `convert.endpoint_slice`."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Hint(msgspec.Struct, gc=False):
    """`endpoints[].hints.forZones[]` and `.forNodes[]` of an EndpointSlice."""

    name: str = ""


class Hints(msgspec.Struct, gc=False, rename="camel"):
    """`endpoints[].hints` of an EndpointSlice."""

    for_zones: list[Hint] | None = None
    for_nodes: list[Hint] | None = None


class Endpoint(msgspec.Struct, gc=False, rename="camel"):
    """`endpoints[]` of an EndpointSlice."""

    addresses: list[str] | None = None
    conditions: Conditions | None = None
    node_name: str | None = None
    hints: Hints | None = None


class EndpointSlice(msgspec.Struct, gc=False, rename="camel"):
    """`discovery.k8s.io/v1` EndpointSlice."""

    api_version: str | None = None
    metadata: Metadata | None = None
    address_type: str | None = None
    ports: list[SlicePort] | None = None
    endpoints: list[Endpoint] | None = None


class NodeAddress(msgspec.Struct, gc=False):
    """`status.addresses[]` of a Node."""

    type: str = ""
    address: str = ""


class Taint(msgspec.Struct, gc=False):
    """`spec.taints[]` of a Node."""

    key: str = ""


class NodeSpec(msgspec.Struct, gc=False):
    """`spec` of a Node."""

    pod_cidr: str | None = msgspec.field(default=None, name="podCIDR")
    pod_cidrs: list[str] | None = msgspec.field(default=None, name="podCIDRs")
    taints: list[Taint] | None = None


class NodeStatus(msgspec.Struct, gc=False):
    """`status` of a Node."""

    addresses: list[NodeAddress] | None = None


class Node(msgspec.Struct, gc=False, rename="camel"):
    """`v1` Node."""

    api_version: str | None = None
    metadata: Metadata | None = None
    spec: NodeSpec | None = None
    status: NodeStatus | None = None


class ContainerPort(msgspec.Struct, gc=False, rename="camel"):
    """`ports[]` of a container."""

    container_port: Integer = 0
    host_port: Integer | None = None
    host_ip: str | None = msgspec.field(default=None, name="hostIP")
    protocol: str | None = None


class Container(msgspec.Struct, gc=False, rename="camel"):
    """`spec.containers[]` and `spec.initContainers[]` of a Pod."""

    name: str = ""
    ports: list[ContainerPort] | None = None
    restart_policy: str | None = None


class PodSpec(msgspec.Struct, gc=False, rename="camel"):
    """`spec` of a Pod."""

    node_name: str | None = None
    host_network: bool | None = None
    runtime_class_name: str | None = None
    containers: list[Container] | None = None
    init_containers: list[Container] | None = None


class PodIp(msgspec.Struct, gc=False):
    """`status.podIPs[]` of a Pod."""

    ip: str | None = None


class PodStatus(msgspec.Struct, gc=False):
    """`status` of a Pod."""

    phase: str | None = None
    pod_ip: str | None = msgspec.field(default=None, name="podIP")
    pod_ips: list[PodIp] | None = msgspec.field(default=None, name="podIPs")


class Pod(msgspec.Struct, gc=False, rename="camel"):
    """`v1` Pod."""

    api_version: str | None = None
    metadata: Metadata | None = None
    spec: PodSpec | None = None
    status: PodStatus | None = None


class ConfigMap(msgspec.Struct, gc=False):
    """`v1` ConfigMap. KINDS does not have it: manifests give no settings."""

    metadata: Metadata | None = None
    data: dict[str, str] | None = None


WireObject = Service | EndpointSlice | Node | Pod

KINDS: dict[tuple[str, str], type[WireObject]] = {
    ("v1", "Service"): Service,
    ("discovery.k8s.io/v1", "EndpointSlice"): EndpointSlice,
    ("v1", "Node"): Node,
    ("v1", "Pod"): Pod,
}
"""The types by apiVersion and kind. Both count: a Knative Service is not a Service."""
