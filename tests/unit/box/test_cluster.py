# SPDX-License-Identifier: Apache-2.0
"""What a cluster is made of, before anything is made: addresses, identities, arguments, files, images."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import tarfile
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_archive import ImageConfig, write_archive
from kubypass.errors import ConfigError
from kubypass_lab.box.kubekey import Host, KubeKey
from kubypass_lab.box.kubernetes import control_plane, pki
from kubypass_lab.box.kubernetes.addons import dns_address, manifest
from kubypass_lab.box.kubernetes.cluster import plan_cluster
from kubypass_lab.box.kubernetes.kubypass import kubypass_manifests, read_settings
from kubypass_lab.box.kubernetes.node_files import NodeSetup, kubelet_arguments, node_files
from kubypass_lab.box.kubernetes.paths import ClusterPaths
from kubypass_lab.box.kubernetes.programs import CLUSTER, END_TO_END, PROGRAMS
from kubypass_lab.box.kubernetes.proxies import parse_proxy, plugin_list

ADDRESS = ipaddress.ip_address("192.168.1.31")
PODS = ipaddress.ip_network("10.233.64.0/18")
SERVICES = ipaddress.ip_network("10.233.0.0/18")
GUIDE = KubeKey((Host("k8s-single", (ADDRESS,)),), (PODS,), (SERVICES,))
DUAL = KubeKey(
    GUIDE.hosts,
    (PODS, ipaddress.ip_network("fd85::/48")),
    (SERVICES, ipaddress.ip_network("fd86::1000/116")),
)

SIX = KubeKey(
    (Host("k8s-single", (ipaddress.ip_address("fd00:c0a8:1::31"),)),),
    (ipaddress.ip_network("fd00:10:233:40::/58"),),
    (ipaddress.ip_network("fd00:10:233::/112"),),
)


@pytest.mark.parametrize(
    ("nodes", "names"),
    [
        (0, []),
        (1, ["k8s-single"]),
        (2, ["k8s-single", "node2"]),
        (3, ["k8s-single", "node2", "node3"]),
    ],
)
def test_the_last_host_of_the_file_has_others_like_it(nodes: int, names: list[str]) -> None:
    topology = plan_cluster(GUIDE, nodes)
    assert [node.name for node in topology.nodes] == names
    assert [node.address(4) for node in topology.nodes] == [ADDRESS + i for i in range(nodes)]
    assert str(topology.gateways[0].ip) == "192.168.1.1"


def test_too_many_nodes() -> None:
    with pytest.raises(ConfigError, match="--nodes 4; expected 0"):
        plan_cluster(GUIDE, 4)


def test_an_unknown_proxy_names_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="expected one of kubypass, kube-proxy-iptables"):
        parse_proxy("ipvs")


@pytest.mark.parametrize(
    ("identity", "subject"),
    [
        (pki.ADMIN, "/O=system:masters/CN=admin"),
        (pki.SCHEDULER, "/CN=system:kube-scheduler"),
        (pki.kubelet("node2", [ADDRESS]), "/O=system:nodes/CN=system:node:node2"),
    ],
)
def test_certificates_say_who_one_is(identity: pki.Identity, subject: str) -> None:
    assert identity.subject == subject


def test_the_api_server_answers_to_its_addresses_and_to_its_services_names() -> None:
    serves = pki.api_server([ADDRESS]).serves
    assert {"IP:192.168.1.31", "IP:127.0.0.1"} <= set(serves)
    assert {"DNS:kubernetes", "DNS:kubernetes.default.svc.cluster.local"} <= set(serves)


def test_a_signed_certificate(tmp_path: Path) -> None:
    pki.make_authority(tmp_path)
    pki.make_certificate(tmp_path, pki.ADMIN)
    path = pki.write_kubeconfig(tmp_path, pki.ADMIN, "https://192.168.1.1:6443")
    config = yaml.safe_load(path.read_text())
    assert config["clusters"][0]["cluster"]["server"] == "https://192.168.1.1:6443"
    assert (tmp_path / "admin.key").stat().st_mode & 0o077 == 0
    assert path.stat().st_mode & 0o077 == 0


def test_the_control_planes_arguments_have_both_families() -> None:
    ranges = control_plane.ranges_of(plan_cluster(DUAL, 1))
    arguments = control_plane.api_server_arguments(Path("/pki"), ranges)
    assert "--service-cluster-ip-range=10.233.0.0/18,fd86::1000/116" in arguments
    assert "--authorization-mode=Node,RBAC" in arguments
    assert "--runtime-config=admissionregistration.k8s.io/v1beta1=true" in arguments
    older = control_plane.api_server_arguments(Path("/pki"), ranges, "v1.33.13")
    assert "--runtime-config=admissionregistration.k8s.io/v1alpha1=true" in older
    arguments = control_plane.controller_manager_arguments(Path("/pki"), ranges)
    assert "--cluster-cidr=10.233.64.0/18,fd85::/48" in arguments
    assert "--node-cidr-mask-size-ipv6=64" in arguments
    single = control_plane.ranges_of(plan_cluster(GUIDE, 1))
    assert single.masks == ("--node-cidr-mask-size=24",)


def test_ipv6_alone() -> None:
    topology = plan_cluster(SIX, 2)
    assert control_plane.server_url(topology) == "https://[fd00:c0a8:1::1]:6443"
    ranges = control_plane.ranges_of(topology)
    arguments = control_plane.api_server_arguments(Path("/pki"), ranges)
    assert "--advertise-address=fd00:c0a8:1::1" in arguments
    assert ranges.masks == ("--node-cidr-mask-size=66",)
    node = topology.nodes[1]
    assert "--node-ip=fd00:c0a8:1::32" in kubelet_arguments(node, topology.families)


@pytest.mark.parametrize(
    ("pods", "services", "wanted"),
    [
        (DUAL.pod_cidrs[::-1], DUAL.service_cidrs[::-1], "fd00:c0a8:1::1"),
        (DUAL.pod_cidrs[1:], DUAL.service_cidrs[1:], "fd00:c0a8:1::1"),
        (DUAL.pod_cidrs, DUAL.service_cidrs, "192.168.1.1"),
    ],
)
def test_the_api_servers_address_is_of_the_services_first_family(
    pods: tuple[IPv4Network | IPv6Network, ...],
    services: tuple[IPv4Network | IPv6Network, ...],
    wanted: str,
) -> None:
    topology = plan_cluster(KubeKey(GUIDE.hosts, pods, services), 2)
    assert control_plane.ranges_of(topology).address == wanted
    assert node_files(topology, topology.nodes[0], NodeSetup("/runc", 20000, ""))[
        "resolv.conf"
    ] == (f"nameserver {wanted}\n")


def test_a_nodes_files() -> None:
    topology = plan_cluster(DUAL, 2)
    node = topology.nodes[1]
    files = node_files(topology, node, NodeSetup("/runc", 20000, "10.233.0.10", ["wait"]))
    kubelet = yaml.safe_load(files["kubernetes/kubelet.yaml"])
    assert kubelet["registerWithTaints"] == [{"key": "wait", "effect": "NoSchedule"}]
    assert kubelet["clusterDNS"] == [str(dns_address(topology))]
    assert kubelet["maxOpenFiles"] == 20000
    assert 'BinaryName = "/runc"' in files["containerd/config.toml"]
    assert "192.168.1.32 node2" in files["hosts"]
    address = node.address(6)
    assert f"--node-ip=192.168.1.32,{address}" in kubelet_arguments(node, topology.families)


def test_pods_get_addresses_of_all_slices() -> None:
    slices = [ipaddress.ip_network("10.233.64.0/24"), ipaddress.ip_network("fd85::/64")]
    made: dict[str, Any] = plugin_list(slices)
    ptp = made["plugins"][0]
    assert ptp["ipam"]["ranges"] == [[{"subnet": "10.233.64.0/24"}], [{"subnet": "fd85::/64"}]]
    assert ptp["ipam"]["routes"] == [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]


def test_manifests_are_whole_when_filled_in() -> None:
    values = {"mode": "iptables", "pods": "P", "server": "S", "image": "I", "every_address": "::"}
    daemons = list(yaml.safe_load_all(manifest("kube-proxy.yaml", values)))
    settings = next(each["data"] for each in daemons if each["kind"] == "ConfigMap")
    assert yaml.safe_load(settings["config.conf"])["bindAddress"] == "::"
    assert [each["kind"] for each in daemons][-1] == "DaemonSet"
    container = daemons[-1]["spec"]["template"]["spec"]["containers"][0]
    assert "--hostname-override=$(NODE_NAME)" in container["command"]


def test_the_guides_settings_are_in_the_config_map(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text('kube-proxy-replacement: "strict"  # note\nbpf-lb-sock: true\n')
    text = kubypass_manifests(plan_cluster(GUIDE, 1), settings)
    objects = {each["kind"]: each for each in yaml.safe_load_all(text)}
    found = objects["ConfigMap"]["data"]
    assert found["kube-proxy-replacement"] == "strict"
    assert found["bpf-lb-sock"] == "true"
    assert found["ipv4-native-routing-cidr"] == "10.233.64.0/18"
    environment = objects["DaemonSet"]["spec"]["template"]["spec"]["containers"][0]["env"]
    values = {each["name"]: each.get("value") for each in environment}
    assert values["KUBERNETES_SERVICE_HOST"] == "192.168.1.1"


@pytest.mark.parametrize(("text", "said"), [("- a", "KEY: VALUE"), ("a: [", "not YAML")])
def test_settings_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_settings(path)


def member(tar: tarfile.TarFile, name: str) -> bytes:
    """A file of an archive."""
    found = tar.extractfile(name)
    assert found
    return found.read()


def test_an_archive_is_the_same_for_the_same_content(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/tool").write_text("tool")
    config = ImageConfig("example.org/tool:1", ("/bin/tool",))
    for name in ("one.tar", "two.tar"):
        write_archive(root, config, tmp_path / name)
    one, two = tmp_path / "one.tar", tmp_path / "two.tar"
    assert one.read_bytes() == two.read_bytes()
    with tarfile.open(one) as tar:
        entry = json.loads(member(tar, "manifest.json"))[0]
        raw = member(tar, entry["Config"])
        layer = member(tar, entry["Layers"][0])
    assert entry["RepoTags"] == ["example.org/tool:1"]
    description = json.loads(raw)
    assert description["config"]["Entrypoint"] == ["/bin/tool"]
    digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    assert description["rootfs"]["diff_ids"] == [digest]


def test_names_carry_the_checkout() -> None:
    paths = ClusterPaths("box")
    assert paths.key.endswith("-box")
    assert paths.namespace("node1") == f"kubernetes-{paths.key}-node1"


def test_every_program_is_built() -> None:
    assert {program.name for program in PROGRAMS} == {*CLUSTER, *END_TO_END}
