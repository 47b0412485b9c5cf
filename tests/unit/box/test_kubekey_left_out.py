# SPDX-License-Identifier: Apache-2.0
"""What a KubeKey file leaves out, key by key, has KubeKey's own default; what has none is named."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubypass.errors import ConfigError
from kubypass_lab.box.kubekey import KubeKey, read_kubekey
from kubypass_lab.box.topology import plan_topology

V1 = "kubekey.kubesphere.io/v1"
SSH = {"user": "root", "password": "secret", "port": 22, "arch": "amd64"}
V3 = {
    "apiVersion": "kubekey.kubesphere.io/v1alpha2",
    "kind": "Cluster",
    "metadata": {"name": "sample"},
    "spec": {
        "hosts": [
            {
                "name": "node1", "address": "192.168.77.2", "internalAddress": "192.168.77.2", **SSH,
                "labels": {"a": "b"},
            },
            {"name": "node2", "address": "192.168.77.3", "internalAddress": "192.168.77.3", **SSH},
        ],
        "roleGroups": {"etcd": ["node1"], "control-plane": ["node1"], "worker": ["node1", "node2"]},
        "controlPlaneEndpoint": {"domain": "lb.kubesphere.local", "address": "", "port": 6443},
        "kubernetes": {"version": "v1.33.1", "clusterName": "cluster.local", "proxyMode": "ipvs", "maxPods": 110},
        "etcd": {"type": "kubekey"},
        "network": {
            "plugin": "cilium", "kubePodsCIDR": "10.233.64.0/18", "kubeServiceCIDR": "10.233.0.0/18",
            "multusCNI": {"enabled": False},
        },
        "storage": {"openebs": {"basePath": "/var/openebs/local"}},
        "registry": {"privateRegistry": "", "registryMirrors": [], "insecureRegistries": []},
        "addons": [],
    },
}  # fmt: skip
INVENTORY = {
    "apiVersion": V1,
    "kind": "Inventory",
    "metadata": {"name": "default"},
    "spec": {
        "hosts": {
            "node1": {"connector": {"type": "ssh", "host": "192.168.77.2", **SSH}, "internal_ipv4": "192.168.77.2"},
            "node2": {"connector": {"type": "ssh", "host": "192.168.77.3", **SSH}, "internal_ipv4": "192.168.77.3"},
        },
        "groups": {
            "k8s_cluster": {"groups": ["kube_control_plane", "kube_worker"]},
            "kube_control_plane": {"hosts": ["node1"]},
            "kube_worker": {"hosts": ["node1", "node2"]},
            "etcd": {"hosts": ["node1"]},
        },
    },
}  # fmt: skip
CONFIG = {
    "apiVersion": V1,
    "kind": "Config",
    "spec": {
        "kubernetes": {"kube_version": "v1.33.1"},
        "cni": {"type": "cilium", "pod_cidr": "10.233.64.0/18", "service_cidr": "10.233.0.0/18"},
    },
}
FILES: dict[str, list[Any]] = {"kk 3": [V3], "kk 4": [INVENTORY, CONFIG]}
NAMED = {
    ("kk 3", (0, "kind")), ("kk 3", (0, "spec")), ("kk 3", (0, "spec", "hosts")),
    ("kk 3", (0, "spec", "hosts", 0)), ("kk 3", (0, "spec", "hosts", 1)),
    ("kk 3", (0, "spec", "hosts", 0, "name")), ("kk 3", (0, "spec", "hosts", 1, "name")),
    ("kk 4", (0, "apiVersion")), ("kk 4", (0, "kind")), ("kk 4", (0, "spec")), ("kk 4", (0, "spec", "hosts")),
    ("kk 4", (0, "spec", "hosts", "node1")), ("kk 4", (0, "spec", "hosts", "node2")),
}  # fmt: skip
"""What cannot be left out: without its hosts a file says nothing, and its groups name them."""
NODES = {
    "kk 3": {(0, "spec", "roleGroups", "worker"): 1, (0, "spec", "roleGroups", "worker", 1): 1},
    "kk 4": {
        (0, "spec", "groups", "kube_worker"): 1,
        (0, "spec", "groups", "kube_worker", "hosts"): 1,
        (0, "spec", "groups", "kube_worker", "hosts", 1): 1,
    },
}
"""Where a node of two is left out."""


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(item, (dict, list)):
            yield from paths(item, (*path, key))


ROWS = [(form, path) for form, file in FILES.items() for path in paths(file) if len(path) > 1]


def changed(form: str, path: tuple[Any, ...], *, null: bool) -> list[Any]:
    file = copy.deepcopy(FILES[form])
    at: Any = file
    for key in path[:-1]:
        at = at[key]
    if null:
        at[path[-1]] = None
    else:
        del at[path[-1]]
    return file


def read(directory: Path, documents: list[Any]) -> KubeKey | str:
    """What the file says, or why it cannot be read."""
    path = directory / "kubekey.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    try:
        return read_kubekey(path)
    except ConfigError as error:
        return str(error)


@pytest.mark.parametrize(("form", "path"), ROWS, ids=str)
def test_each_key_may_be_left_out_or_null(tmp_path: Path, form: str, path: tuple[Any, ...]) -> None:
    whole = read(tmp_path, FILES[form])
    assert isinstance(whole, KubeKey)
    for null in (False, True):
        found = read(tmp_path, changed(form, path, null=null))
        if (form, path) in NAMED:
            assert isinstance(found, str), null
            assert str(tmp_path / "kubekey.yaml") in found
            continue
        assert isinstance(found, KubeKey), found
        assert (found.pod_cidrs, found.service_cidrs) == (whole.pod_cidrs, whole.service_cidrs)
        assert len(found.hosts) == NODES[form].get(path, 2)
        addresses = [host.addresses for host in found.hosts]
        assert addresses == [host.addresses for host in whole.hosts][: len(addresses)]
        assert plan_topology(found)


def test_no_config_of_kk_4_at_all(tmp_path: Path) -> None:
    assert read(tmp_path, [INVENTORY]) == read(tmp_path, [INVENTORY, CONFIG])
