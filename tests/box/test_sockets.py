# SPDX-License-Identifier: Apache-2.0
"""What applications see of the translation, and checksums with and without offload."""

from __future__ import annotations

import pytest

from kubypass_lab.box.patience import ANSWER_S
from tests.box.conftest import Cluster

CONNECTED = """
import socket, sys
family, kind, address, port = sys.argv[1:]
s = socket.socket(getattr(socket, family), getattr(socket, kind))
s.settimeout(30)
s.connect((address, int(port)))
print(*s.getpeername()[:2])
s.send(b"GET / HTTP/1.0\\r\\n\\r\\n")
assert s.recv(4096)
print(*s.getpeername()[:2])
"""


@pytest.mark.parametrize("place", ["node1", "pod1"])
@pytest.mark.parametrize(("kind", "port"), [("SOCK_STREAM", 80), ("SOCK_DGRAM", 53)])
@pytest.mark.parametrize("version", [4, 6, "mapped"])
def test_a_connected_socket_sees_the_service(
    cluster: Cluster, place: str, kind: str, port: int, version: int | str
) -> None:
    """The socket may be an IPv6 one that dials an IPv4 service by its mapped address."""
    address = cluster.host(6 if version == 6 else 4, "echo").strip("[]")
    if version == "mapped":
        address = f"::ffff:{address}"
    family = "AF_INET" if version == 4 else "AF_INET6"
    seen = cluster.run(place, "python3", "-c", CONNECTED, family, kind, address, str(port))
    assert seen == f"{address} {port}\n" * 2


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("summed", ["by the sender", "by nobody", "on the way"])
def test_checksums_with_and_without_offload(cluster: Cluster, version: int, summed: str) -> None:
    """The receiver verifies what was summed: by who sends it, or by the node's uplink once it is translated."""
    senders = ["client", "pod1", *(f"pod/{pod.name}" for pod in cluster.pods("my-nginx"))]
    places = {"by the sender": senders, "by nobody": [], "on the way": ["node1", "node2"]}[summed]
    number = cluster.node_port("my-nginx")
    for place in places:
        cluster.run(place, "ethtool", "-K", "eth0", "tx", "off")
    for place in ("client", "pod1"):
        for node in ("node1", "node2"):
            for _ in range(4):
                url = f"http://{cluster.host(version, node)}:{number}/"
                assert "Welcome" in cluster.run(place, "curl", "-sSg", "-m", f"{ANSWER_S:.0f}", url)
    for place in places:
        cluster.run(place, "ethtool", "-K", "eth0", "tx", "on")
