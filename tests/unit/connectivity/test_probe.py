# SPDX-License-Identifier: Apache-2.0
"""Who is asked on a node for its proxy and its drops."""

from __future__ import annotations

from typing import cast
from urllib.parse import parse_qs, urlsplit

import pytest

from kubypass.connectivity.probe import Probe
from kubypass.errors import KubeError
from kubypass.kube.client.rest import Rest

METRICS = 'kubypass_drops_total{hook="from_pod",reason="no_route"} 3\n'
SAID = {"/proxyMode": b"ebpf", "/metrics": METRICS.encode()}


class Node:
    """Answers as a test pod on its network, where something listens on one address at most."""

    def __init__(self, listens: str) -> None:
        self._listens = listens

    def request(self, path: str) -> bytes:
        words = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        if (words["host"], words["port"]) != (self._listens, "10249"):
            raise KubeError("502 Bad Gateway")
        return SAID[words["path"]]


@pytest.mark.parametrize(
    ("listens", "proxy", "drops"), [("127.0.0.1", "ebpf", 3), ("::1", "ebpf", 3), ("", "", 0)]
)
def test_the_metrics_port_of_either_loopback(listens: str, proxy: str, drops: int) -> None:
    probe = Probe(cast("Rest", Node(listens)), "token", {})
    assert probe.proxy("a") == proxy
    assert sum(probe.drops("a").values()) == drops
