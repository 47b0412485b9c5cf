# SPDX-License-Identifier: Apache-2.0
"""The numbers and objects of the measurements on a real Kubernetes."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from kubypass.errors import ConfigError
from kubypass_lab.bench.kubernetes import summary
from kubypass_lab.bench.kubernetes_objects import (
    POD_CIDR,
    SERVICE_CIDR,
    Size,
    node,
    node_address,
    numbered_slice,
    service,
)

GUIDE = Size(nodes=1000, services=10000, endpoints=10)


def _addresses(size: Size, number: int, generation: int = 0) -> list[str]:
    found: dict[str, Any] = numbered_slice(size, number, generation)
    return [endpoint["addresses"][0] for endpoint in found["endpoints"]]


def test_every_endpoint_has_an_address_of_its_own_in_both_generations() -> None:
    size = Size(nodes=20, services=250, endpoints=10)
    found = [
        address
        for number in range(size.services)
        for address in {*_addresses(size, number), *_addresses(size, number, 1)}
    ]
    assert len(found) == len(set(found)) == size.services * (size.endpoints + 1)
    assert all(ip_address(address) in ip_network(POD_CIDR) for address in found)


def test_a_generation_moves_the_first_endpoint_alone() -> None:
    before, after = _addresses(GUIDE, 9999), _addresses(GUIDE, 9999, 1)
    assert before[0] != after[0]
    assert before[1:] == after[1:]
    assert _addresses(GUIDE, 9999, 2) == before


def test_an_endpoint_is_in_its_nodes_pod_range() -> None:
    found: dict[str, Any] = numbered_slice(GUIDE, 9999)
    endpoint = found["endpoints"][3]
    owner: dict[str, Any] = node(int(endpoint["nodeName"].removeprefix("node-")))
    pods = ip_network(owner["spec"]["podCIDR"])
    assert ip_address(endpoint["addresses"][0]) in pods


def test_the_last_service_and_node_are_in_their_ranges() -> None:
    largest = Size(nodes=2000, services=60000, endpoints=8)
    largest.check()
    last: dict[str, Any] = service(largest.services - 1)
    address = last["spec"]["clusterIP"]
    assert ip_address(address) in ip_network(SERVICE_CIDR)
    assert node_address(largest.nodes - 1) in ip_network("172.20.0.0/16")


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (Size(5000, 1, 1), "--nodes 5000: expected 1 to 2000"),
        (Size(1000, 70000, 1), "--services 70000: expected 1 to 60000"),
        (Size(3, 1000, 10), "--nodes 3: 3334 endpoints on each, expected at most 254"),
    ],
)
def test_a_size_without_enough_addresses_is_refused(size: Size, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        size.check()


def _run(proxy: str, ready_s: float, switches: list[float]) -> dict[str, object]:
    return {
        "proxy": proxy,
        "start": {"ready_s": ready_s, "cpu_s": 1.0, "peak_tree_kb": 2},
        "idle": {"rss_kb": 100, "cores": 0.0},
        "churn": {"cores_at_100_per_s": 0.1, "switch_ms": [5.0]},
        "switch_ms": switches,
        "after": {"peak_kb": 200},
    }


def test_medians_are_of_turns_and_percentiles_of_all_switches() -> None:
    found = summary(
        [
            _run("kubypass", 1.0, [1.0, 2.0]),
            _run("kube-proxy iptables", 10.0, [100.0]),
            _run("kubypass", 3.0, [3.0, 4.0]),
            _run("kubypass", 2.0, [5.0]),
        ]
    )
    ours = found["summary"]["kubypass"]
    assert ours["ready_s"] == {"median": 2.0, "least": 1.0, "most": 3.0}
    assert ours["switch_p50_ms"]["median"] == 3.0
    ratios = found["ratios"]["kube-proxy iptables"]
    assert ratios["ready_s"] == 5.0
    assert "idle_cores" not in ratios  # nothing is no measure


def test_there_are_no_ratios_without_kubypass() -> None:
    assert not summary([_run("kube-proxy iptables", 10.0, [100.0])])["ratios"]
