# SPDX-License-Identifier: Apache-2.0
"""Short words for the cases of `trace --batch`: one service with endpoints, one flow."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Ask = Callable[[object], dict[str, Any]]
"""Takes a case, or a line of text, and returns the answer of `trace --batch`."""
NODE = "192.168.0.2"
"""Primary address of `me`; its other one is ALT."""
ALT = "192.168.1.2"
POD, OTHER_POD, OUTSIDE = "10.0.1.9", "10.0.2.9", "203.0.113.9"
CLUSTER_IP, EXTERNAL_IP, VIP = "10.96.0.10", "192.0.2.7", "192.0.2.8"
NODE_PORT = 30080
KINDS = {NODE: "node", ALT: "node", "127.0.0.1": "node", POD: "pod", "10.0.1.1": "pod"}


def to_ipv6(text: str) -> str:
    """The address of the same cluster in IPv6: 10.0.1.9 is fd00::10:0:1:9."""
    if text == "127.0.0.1":
        return "::1"
    address, slash, prefix = text.partition("/")
    groups = "fd00:0:0:0:" + ":".join(address.split("."))
    return f"{groups}/{64 + 2 * int(prefix)}" if slash else groups


@dataclass
class Case:
    """`endpoints`: `ADDRESS@NODE=STATE` with state as letters of r(eady), s(erving), t(erminating)."""

    endpoints: str = "10.0.1.1@me 10.0.2.1@other"
    spec: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    vips: list[dict[str, Any]] = field(default_factory=lambda: [{"ip": VIP}])
    cluster_cidr: str = "10.0.0.0/16"

    def ask(
        self, source: str, to: str, port: int, proto: str = "TCP", kind: str = ""
    ) -> dict[str, Any]:
        """The case as JSON."""
        return {
            "id": f"{source} {to} {port}",
            "objects": {"services": [self._service()], "endpointslices": [self._slice()], "nodes": [_node()]},
            "this_node": "me",
            "node_ips": [NODE, ALT],
            "cluster_cidr": [self.cluster_cidr] if self.cluster_cidr else [],
            "config": {
                "nodeport_addresses": None, "localhost_nodeports": True, "masquerade_all": False,
                "local_detector": "cluster-cidr", "service_cidrs": ["10.96.0.0/16"], **self.config,
            },
            "flow": {
                "src_ip": source, "src_kind": kind or KINDS.get(source, "external"),
                "proto": proto, "dst_ip": to, "dst_port": port,
            },
        }  # fmt: skip

    def _service(self) -> dict[str, Any]:
        protocols = [
            (name, proto) for name, proto in (("tcp", "TCP"), ("udp", "UDP"), ("sctp", "SCTP"))
        ]
        ports = [
            {"name": name, "port": 80, "protocol": proto, "nodePort": NODE_PORT}
            for name, proto in protocols
        ]
        spec = {
            "type": "LoadBalancer",
            "clusterIP": CLUSTER_IP,
            "externalIPs": [EXTERNAL_IP],
            "ports": ports,
        }
        return {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {**spec, **self.spec},
            "status": {"loadBalancer": {"ingress": self.vips}},
        }

    def _slice(self) -> dict[str, Any]:
        return {
            "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [
                {"name": name, "port": 8080, "protocol": proto}
                for name, proto in (("tcp", "TCP"), ("udp", "UDP"), ("sctp", "SCTP"))
            ],
            "endpoints": [_endpoint(text) for text in self.endpoints.split()],
        }  # fmt: skip


def _endpoint(text: str) -> dict[str, Any]:
    where, _, state = text.partition("=")
    address, _, node = where.partition("@")
    conditions = {"ready": "r" in state, "serving": "s" in state, "terminating": "t" in state}
    found: dict[str, Any] = {"addresses": [address], "conditions": conditions if state else {}}
    return {**found, "nodeName": node} if node else found


def _node() -> dict[str, Any]:
    return {
        "metadata": {"name": "me", "labels": {"topology.kubernetes.io/zone": "a"}},
        "status": {"addresses": [{"type": "InternalIP", "address": NODE}]},
    }


def ipv6(case: dict[str, Any]) -> dict[str, Any]:
    """The whole case with IPv6 addresses."""
    text = json.dumps(case).replace('"IPv4"', '"IPv6"')
    return json.loads(re.sub(r"\d+\.\d+\.\d+\.\d+(/\d+)?", lambda found: to_ipv6(found[0]), text))


def errors(stderr: str) -> list[str]:
    """The lines that tell of an error: on a slow machine, `trace` says before them what it loads."""
    return [line for line in stderr.splitlines() if "loading programs" not in line]
