# SPDX-License-Identifier: Apache-2.0
"""Where the network leads external addresses of services."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kubypass_lab.box.kubekey import read_kubekey
from kubypass_lab.box.objects import Service
from kubypass_lab.box.topology import plan_topology
from kubypass_lab.box.vips import plan_routes

GUIDE = Path(__file__).parents[3] / "examples" / "guide" / "config-sample.yaml"


@pytest.mark.parametrize(
    ("external", "ingress", "expected"),
    [
        (["198.51.100.1"], [], ["198.51.100.1"]),
        (["198.51.100.001"], [], ["198.51.100.1"]),
        ([], [{"ip": "198.51.100.2"}, {"ip": "198.51.100.3", "ipMode": "Proxy"}], ["198.51.100.2"]),
        ([], [{"hostname": "lb.example"}], []),
        (["192.168.1.100"], [], ["192.168.1.100"]),
        (["192.168.1.31"], [], []),  # node1
        (["192.168.1.1"], [], []),  # the network itself
        (["203.0.113.77"], [], []),  # of the client's network
        (["10.233.64.99", "10.233.0.99"], [], []),  # a pod's, a service's
        (["127.0.0.1", "224.0.0.1"], [], []),
        (["2001:db8::1"], [], []),  # the box has no IPv6
    ],
)
def test_routes(external: list[str], ingress: list[dict[str, str]], expected: list[str]) -> None:
    raw = {
        "metadata": {"name": "web"},
        "spec": {"externalIPs": external},
        "status": {"loadBalancer": {"ingress": ingress}},
    }
    topology = plan_topology(read_kubekey(GUIDE))
    routes = plan_routes([msgspec.convert(raw, Service)], topology)
    assert routes == dict.fromkeys(expected, "192.168.1.31")
