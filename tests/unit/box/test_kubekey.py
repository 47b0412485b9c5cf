# SPDX-License-Identifier: Apache-2.0
"""KubeKey files, right and wrong, and the addresses that come of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubypass.errors import ConfigError
from kubypass_lab.box.kubekey import KubeKey, read_kubekey
from kubypass_lab.box.paths import BoxPaths
from kubypass_lab.box.topology import describe_topology, parse_topology, plan_topology

GUIDE = Path(__file__).parents[3] / "examples" / "guide" / "config-sample.yaml"
DUAL_PODS = "10.233.64.0/18,fd85:ee78:d8a6:8607::1:0/112"
DUAL_SERVICES = "10.233.0.0/18,fd85:ee78:d8a6:8607::1000/116"


def read(tmp_path: Path, **changes: str) -> KubeKey:
    """The guide's file with some of its texts replaced."""
    text = GUIDE.read_text()
    values = {"pods": "10.233.64.0/18", "services": "10.233.0.0/18", "address": "192.168.1.31"}
    for name, value in changes.items():
        text = text.replace(values[name], value)
    path = tmp_path / "kubekey.yaml"
    path.write_text(text)
    return read_kubekey(path)


def test_guide() -> None:
    topology = plan_topology(read_kubekey(GUIDE))
    assert describe_topology(topology) == {
        "nodes": [
            {
                "name": "k8s-single",
                "alias": "node1",
                "addresses": ["192.168.1.31/24"],
                "podCIDRs": ["10.233.64.0/24"],
                "labels": {
                    "kubernetes.io/hostname": "k8s-single",
                    "topology.kubernetes.io/zone": "zone-a",
                },
            },
            {
                "name": "node2",
                "alias": "node2",
                "addresses": ["192.168.1.32/24"],
                "podCIDRs": ["10.233.65.0/24"],
                "labels": {
                    "kubernetes.io/hostname": "node2",
                    "topology.kubernetes.io/zone": "zone-b",
                },
            },
        ],
        "gateways": ["192.168.1.1/24"],
        "podCIDRs": ["10.233.64.0/18"],
        "serviceCIDRs": ["10.233.0.0/18"],
    }
    assert parse_topology(describe_topology(topology)) == topology


def test_dual_stack_gives_hosts_an_ipv6_address(tmp_path: Path) -> None:
    topology = plan_topology(read(tmp_path, pods=DUAL_PODS, services=DUAL_SERVICES))
    assert topology.families == (4, 6)
    assert [str(each) for each in topology.nodes[1].addresses] == [
        "192.168.1.32/24",
        "fd00:c0a8:1::32/64",
    ]
    assert [str(each) for each in topology.nodes[1].pod_cidrs] == [
        "10.233.65.0/24",
        "fd85:ee78:d8a6:8607::1:100/120",
    ]


def test_ipv6_hosts_need_no_ipv4(tmp_path: Path) -> None:
    topology = plan_topology(
        read(tmp_path, pods="fd85::1:0/112", services="fd85::1000/116", address="fd10::31")
    )
    assert [str(each) for each in topology.nodes[0].addresses] == ["fd10::31/64"]
    assert [str(each) for each in topology.gateways] == ["fd10::1/64"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pods": "10.233.64.0/33"}, "spec.network.kubePodsCIDR"),
        ({"pods": "10.233.64.1/18"}, "has host bits set"),
        ({"pods": "10.233.0.0/17"}, "overlaps kubeServiceCIDR"),
        ({"pods": "10.233.64.0/18,10.234.0.0/18"}, "one of each IP family"),
        ({"pods": DUAL_PODS}, "different IP families"),
        ({"pods": "192.168.0.0/16"}, "overlaps the nodes' subnet"),
        ({"pods": "10.233.64.0/30"}, "too small"),
        ({"address": "192.168.1.999"}, "spec.hosts[0].internalAddress"),
        ({"address": "fd10::31"}, "has no IPv4 address"),
    ],
)
def test_wrong_values_are_named(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        plan_topology(read(tmp_path, **changes))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not YAML"),
        ("kind: Pod", "no document of kind Cluster"),
        ("kind: Cluster", "spec: expected a mapping"),
        ("kind: Cluster\nspec: {network: {}}", "kubePodsCIDR: expected a CIDR"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "kubekey.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_kubekey(path)


def test_a_host_may_be_called_by_its_domain_name() -> None:
    """A bpffs takes no dots."""
    paths = BoxPaths("dots")
    directory = paths.node_bpffs("node-01.prod.example.org")
    assert directory.parent == paths.bpffs
    assert "." not in directory.name


@pytest.mark.parametrize("name", ["fabric", "client", "pod.web"])
def test_names_of_other_namespaces_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="expected a host name"):
        _read_text(tmp_path, GUIDE.read_text().replace("name: k8s-single", f"name: {name}"))


def _read_text(tmp_path: Path, text: str) -> KubeKey:
    path = tmp_path / "kubekey.yaml"
    path.write_text(text)
    return read_kubekey(path)
