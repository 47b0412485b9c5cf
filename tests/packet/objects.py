# SPDX-License-Identifier: Apache-2.0
"""Kubernetes objects for rows: a service of every kind in one family, and its endpoints in a word each."""

from __future__ import annotations

from typing import Any

from tests.packet.packets import Addresses
from tests.packet.pipeline import NODE, Pipeline

PORT, NODE_PORT, TARGET = 80, 30080, 8080
EXTERNAL = {4: "198.51.100.1", 6: "2001:db8:e::1"}
BALANCER = {4: "198.51.100.2", 6: "2001:db8:e::2"}
CONDITIONS: dict[str, dict[str, bool]] = {
    "ready": {},
    "ending": {"ready": False, "serving": True, "terminating": True},
    "stopped": {"ready": False, "serving": False, "terminating": True},
    "unready": {"ready": False, "serving": False},
    "serving": {"ready": False, "serving": True},
    "published": {"ready": True, "serving": False, "terminating": True},
}


def frontends(who: Addresses) -> dict[str, tuple[str, int]]:
    """Where the service answers, by the kind of frontend."""
    return {
        "cluster": (who.service, PORT),
        "node": (who.node, NODE_PORT),
        "external": (EXTERNAL[who.version], PORT),
        "balancer": (BALANCER[who.version], PORT),
    }


def service(who: Addresses, *, protocol: str = "TCP", **spec: Any) -> dict[str, Any]:
    """With all kinds of frontends; `spec` adds fields or replaces them."""
    fields = {
        "type": "LoadBalancer",
        "clusterIP": who.service,
        "clusterIPs": [who.service],
        "ipFamilies": [f"IPv{who.version}"],
        "externalIPs": [EXTERNAL[who.version]],
        "ports": [{"port": PORT, "protocol": protocol, "nodePort": NODE_PORT}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": fields | spec,
        "status": {"loadBalancer": {"ingress": [{"ip": BALANCER[who.version]}]}},
    }


def endpoint(
    address: str, state: str = "ready", node: str | None = NODE, **more: Any
) -> dict[str, Any]:
    """One of a slice's."""
    found = {"addresses": [address], "conditions": CONDITIONS[state], **more}
    return found if node is None else found | {"nodeName": node}


def endpoint_slice(
    who: Addresses,
    endpoints: list[dict[str, Any]],
    *,
    name: str = "web-1",
    protocol: str = "TCP",
    **more: Any,
) -> dict[str, Any]:
    """A slice of the service."""
    labels = {"kubernetes.io/service-name": "web"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "addressType": f"IPv{who.version}",
        "ports": [{"name": "", "port": TARGET, "protocol": protocol}],
        "endpoints": endpoints,
        **more,
    }


def put(pipeline: Pipeline, *items: dict[str, Any]) -> None:
    """Objects, and the maps after them."""
    for item in items:
        pipeline.put(item["metadata"]["name"], item)
    pipeline.sync()
