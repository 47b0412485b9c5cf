# SPDX-License-Identifier: Apache-2.0
"""A way to the client that takes less than all links do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kubypass_lab.box.paths import CLIENT, FABRIC
from kubypass_lab.box.topology import CLIENT_ADDRESSES
from kubypass_lab.box.wiring import ip_batch
from tests.box.conftest import Cluster

MTU = 1400


@contextmanager
def narrow(cluster: Cluster, host: str, version: int) -> Iterator[None]:
    """The way to the client takes less than all links do, from a node or from the fabric on."""
    namespace = cluster.box.paths.namespace(host)
    client = CLIENT_ADDRESSES[version == 6].partition("/")[0]
    device = CLIENT if host == FABRIC else "eth0"
    gateways = {int(each.version): each.ip for each in cluster.box.topology.gateways}
    via = "" if host == FABRIC else f"via {gateways[version]}"
    route = f"{client} {via} dev {device}"
    ip_batch(namespace, [f"route add {route} mtu lock {MTU}"])
    try:
        yield
    finally:
        ip_batch(namespace, [f"route delete {route}"])
        for pod in (*cluster.pods("echo"), *cluster.pods("server")):
            cluster.run(f"pod/{pod.name}", "ip", "route", "flush", "cache")
            cluster.run(f"pod/{pod.name}", "ip", "-6", "route", "flush", "cache")
