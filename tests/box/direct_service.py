# SPDX-License-Identifier: Apache-2.0
"""A load balancer's Service that clients outside reach in DSR mode, and the client."""

from __future__ import annotations

from typing import Any

from kubypass_lab.box.paths import CLIENT
from tests.box.conftest import Cluster

TRIES = 60
CLIENT_ADDRESS = {4: "203.0.113.9", 6: "2001:db8:cafe::9"}
VIP = {4: "198.51.100.7", 6: "2001:db8:51::7"}
SERVICE = """
    apiVersion: v1
    kind: Service
    metadata: {{name: direct, annotations: {{{annotations}}}}}
    spec:
      type: LoadBalancer
      ipFamilyPolicy: RequireDualStack
      selector: {{app: echo}}
      ports:
      - {{name: web, port: 8000, targetPort: web}}
      - {{name: dns, port: 53, targetPort: dns, protocol: UDP}}
    status: {{loadBalancer: {{ingress: [{{ip: 198.51.100.7}}, {{ip: "2001:db8:51::7"}}]}}}}
    """


def peers(cluster: Cluster, node: str) -> list[dict[str, Any]]:
    found = cluster.status(node)["forwarding_mode"]["peers"]
    assert isinstance(found, list)
    return found


def seen_by_all(
    cluster: Cluster, protocol: str, to: tuple[str, int], host: str = CLIENT
) -> dict[str, set[str]]:
    """Node -> the client's addresses, as pods there saw them."""
    found: dict[str, set[str]] = {}
    for _ in range(TRIES):
        answer = cluster.ask(host, protocol, *to)
        found.setdefault(answer["node"], set()).add(answer["client"].rpartition(":")[0].strip("[]"))
    assert len(found) == 2, found
    return found


def clashes(cluster: Cluster) -> int:
    """How many connections node1 has masqueraded because the client had another one from their port."""
    return int(cluster.status("node1")["forwarding_mode"]["masqueraded"]["clash"])
