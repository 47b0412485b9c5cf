# SPDX-License-Identifier: Apache-2.0
"""Rows of from, to, expected: who answers, and which client address it sees."""

from __future__ import annotations

import pytest

from kubypass_lab.box.patience import ANSWER_S
from tests.box.conftest import Cluster

FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
INSIDE = ("node1", "node2", "pod1", "pod2")

# from, to, port of what is asked
PAGES = [
    *((place, "loopback", "node") for place in ("node1", "node2")),
    *((place, address, "node") for place in (*INSIDE, "client") for address in ("node1", "node2")),
    *((place, "my-nginx", "service") for place in INSIDE),
    *((place, pod, "service") for place in INSIDE for pod in ("nginx1", "nginx2")),
]

# from, to, port: both pods answer, and the answer comes from the address that was asked
ANSWERS = [
    *((place, "echo", "service") for place in INSIDE),
    *((place, address, "node") for place in (*INSIDE, "client") for address in ("node1", "node2")),
]


@FAMILIES
@pytest.mark.parametrize(("place", "to", "port"), PAGES)
def test_welcome_page(cluster: Cluster, version: int, place: str, to: str, port: str) -> None:
    number = cluster.node_port("my-nginx") if port == "node" else 80
    url = f"http://{cluster.host(version, to)}:{number}/"
    page = cluster.run(place, "curl", "-sSg", "-m", f"{ANSWER_S:.0f}", url)
    assert "<title>Welcome to nginx!</title>" in page


@FAMILIES
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize("row", ANSWERS, ids="-".join)
def test_every_backend_answers(
    cluster: Cluster, version: int, protocol: str, row: tuple[str, str, str]
) -> None:
    place, to, port = row
    service_port = {"TCP": 80, "UDP": 53}[protocol]
    number = cluster.node_port("echo", protocol) if port == "node" else service_port
    wanted = {pod.name for pod in cluster.pods("echo")}
    seen: set[str] = set()
    for _ in range(40):
        seen.add(cluster.ask(place, protocol, cluster.host(version, to), number)["pod"])
        if seen == wanted:
            break
    assert seen == wanted


@FAMILIES
@pytest.mark.parametrize("place", ["pod1", "pod2"])
def test_pods_keep_their_address(cluster: Cluster, version: int, place: str) -> None:
    """Natively routed, and translated without SNAT: a responder sees the pod that asks."""
    pod = next(p for p in cluster.pods("visitor") if f"pod/{p.name}" == cluster.place(place))
    answer = cluster.ask(place, "TCP", cluster.host(version, "echo"), 80)
    client = answer["client"].rpartition(":")[0].strip("[]")
    assert client in pod.addresses


@FAMILIES
@pytest.mark.parametrize("place", INSIDE)
def test_service_without_backends_is_refused(cluster: Cluster, version: int, place: str) -> None:
    url = f"http://{cluster.host(version, 'empty')}:80/"
    code = cluster.run(place, "sh", "-c", f"curl -sg -m {ANSWER_S:.0f} {url}; echo $?")
    assert code.strip() == "7"
