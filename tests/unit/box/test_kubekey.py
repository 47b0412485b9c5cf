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
V1 = "apiVersion: kubekey.kubesphere.io/v1\n"
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
        ("kind: Cluster\nspec: {network: {}}", "spec.hosts: expected a list"),
        (
            "kind: Cluster\nspec: {network: {kubePodsCIDR: [10.0.0.0/8]}}",
            "kubePodsCIDR: expected a CIDR",
        ),
        (
            "kind: Cluster\nmetadata: {name: a, spec: {hosts: []}}",
            "metadata.spec: spec is a field of the document",
        ),
        (f"{V1}kind: Inventory\nspec: {{hosts: }}", "spec.hosts: expected at least one host"),
        (
            f"{V1}kind: Inventory\nspec: {{hosts: {{localhost: }}}}",
            "spec.hosts.localhost.internal_ipv4: expected an IP",
        ),
        (
            "kind: Inventory\nspec: {hosts: {a: {internal_ipv4: 10.0.0.1}}}",
            "no document of kind Cluster",
        ),
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


HOST = "{name: cp1, address: 203.0.113.9, internalAddress: 192.168.77.2}"
CLUSTER = f"kind: Cluster\nspec:\n  hosts: [{HOST}, {{name: w1, address: 192.168.77.3}}]\n"
ROLES = '  roleGroups: {etcd: [cp1], control-plane: [cp1], worker: ["w[1:1]"]}\n'
DEFAULTS = ["10.233.64.0/18", "10.233.0.0/18"]


@pytest.mark.parametrize(
    ("rest", "names", "networks"),
    [
        ("", ["cp1", "w1"], DEFAULTS),
        (ROLES, ["cp1", "w1"], DEFAULTS),
        ("  roleGroups: {etcd: [w1], master: [cp1]}\n", ["cp1"], DEFAULTS),
        ("  network:\n", ["cp1", "w1"], DEFAULTS),
        ("  network: {plugin: cilium}\n", ["cp1", "w1"], DEFAULTS),
        ('  network: {kubePodsCIDR: "", kubeServiceCIDR: null}\n', ["cp1", "w1"], DEFAULTS),
        ("  network: {kubePodsCIDR: 10.244.0.0/16}\n", ["cp1", "w1"], ["10.244.0.0/16", DEFAULTS[1]]),
        (
            "  network: {kubePodsCIDR: 10.244.0.1/16, kubeServiceCIDR: 10.96.0.1/12}\n",
            ["cp1", "w1"], ["10.244.0.0/16", "10.96.0.0/12"],
        ),
    ],
)  # fmt: skip
def test_what_a_file_leaves_out_has_kubekeys_default(
    tmp_path: Path, rest: str, names: list[str], networks: list[str]
) -> None:
    found = _read_text(tmp_path, CLUSTER + rest)
    assert [host.name for host in found.hosts] == names
    assert [str(cidr) for cidr in (*found.pod_cidrs, *found.service_cidrs)] == networks
    assert str(found.hosts[0].addresses[0]) == "192.168.77.2"


def test_a_role_of_no_host(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"spec\.roleGroups: w2 is none of the hosts"):
        _read_text(tmp_path, CLUSTER + ROLES.replace("[1:1]", "[1:2]"))


INVENTORY = f"""{V1}kind: Inventory
metadata: {{name: default}}
spec:
  hosts:
    node1:
      connector: {{type: ssh, host: 203.0.113.1, password: 123456}}
      internal_ipv4: 192.168.77.2
      internal_ipv6: "2022::2"
    node2: {{connector: {{host: 192.168.77.3}}}}
    harbor: {{internal_ipv4: 192.168.77.9}}
  groups:
    k8s_cluster: {{groups: [kube_control_plane, kube_worker]}}
    kube_control_plane: {{hosts: [node1]}}
    kube_worker: {{hosts: [node1, node2]}}
    image_registry: {{hosts: [harbor]}}
"""
CONFIG = f"---\n{V1}kind: Config\nspec: {{cni: {{type: cilium, pod_cidr: 10.42.0.0/16, service_cidr: 10.43.0.0/16}}}}\n"


@pytest.mark.parametrize(
    ("text", "networks"),
    [(INVENTORY, DEFAULTS), (INVENTORY + CONFIG, ["10.42.0.0/16", "10.43.0.0/16"])],
    ids=["Inventory", "with Config"],
)
def test_files_of_kk_4(tmp_path: Path, text: str, networks: list[str]) -> None:
    found = _read_text(tmp_path, text)
    assert [(host.name, [str(one) for one in host.addresses]) for host in found.hosts] == [
        ("node1", ["192.168.77.2", "2022::2"]),
        ("node2", ["192.168.77.3"]),
    ]
    assert [str(cidr) for cidr in (*found.pod_cidrs, *found.service_cidrs)] == networks
    assert len(plan_topology(found).nodes) == 2
