# SPDX-License-Identifier: Apache-2.0
"""The files in a node's /etc: its host names, and the configuration of containerd and kubelet. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kubypass_lab.box.kubernetes.images import PAUSE
from kubypass_lab.box.topology import PlannedNode, Topology

# The node's mount point of the cache: programs, unpacked packages, images.
CACHE = "/opt/box"
CONTAINERD = "/run/containerd/containerd.sock"
# A file below the node's disk that exists once all images are imported.
IMPORTED = "lib/images/imported"
NOT_READY_TAINT = "node.kubypass.io/agent-not-ready"


@dataclass(frozen=True, slots=True)
class NodeSetup:
    """What differs between nodes beside their names and addresses."""

    runc: str  # path of the program on the node
    open_files: int  # the hard limit up to which the kubelet may raise its limit
    dns: str  # address of cluster DNS
    taints: Sequence[str] = ()  # keys of taints; what they wait for removes them


def node_files(topology: Topology, node: PlannedNode, setup: NodeSetup) -> dict[str, str]:
    """Maps each path below /etc to its content."""
    hosts = [f"{each.ip} {node.name}" for each in node.addresses]
    return {
        "hostname": f"{node.name}\n",
        "hosts": "\n".join(["127.0.0.1 localhost", "::1 localhost", *hosts]) + "\n",
        # Connections to this address are refused at once.
        "resolv.conf": f"nameserver {topology.gateway}\n",
        "containerd/config.toml": _containerd(setup),
        "kubernetes/kubelet.yaml": _kubelet(setup),
    }


def kubelet_arguments(node: PlannedNode, families: Sequence[int]) -> list[str]:
    """The kubelet's flags. All other options are in its configuration file."""
    addresses = [str(node.address(version)) for version in families]
    labels = [f"{key}={value}" for key, value in node.labels if key != "kubernetes.io/hostname"]
    return [
        "--config=/etc/kubernetes/kubelet.yaml",
        "--kubeconfig=/etc/kubernetes/kubelet.conf",
        f"--hostname-override={node.name}",
        f"--node-ip={','.join(addresses)}",
        *([f"--node-labels={','.join(labels)}"] if labels else []),
    ]


def _containerd(setup: NodeSetup) -> str:
    """The configuration of containerd, without cgroup controllers and so without resource limits.

    The machine may use version 1 of the controllers, which a node does not see.
    """
    disabled = [
        *(f"io.containerd.snapshotter.v1.{name}" for name in ("aufs", "btrfs", "devmapper", "zfs")),
        "io.containerd.tracing.processor.v1.otlp",
        "io.containerd.internal.v1.tracing",
    ]
    plugins = ", ".join(f'"{name}"' for name in disabled)
    return f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [{plugins}]
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_cgroup = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{setup.runc}"
"""


def _kubelet(setup: NodeSetup) -> str:
    taints = ", ".join(f"{{key: {key}, effect: NoSchedule}}" for key in setup.taints)
    return f"""apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: /etc/kubernetes/pki/ca.crt}}
authorization: {{mode: Webhook}}
tlsCertFile: /etc/kubernetes/pki/kubelet.crt
tlsPrivateKeyFile: /etc/kubernetes/pki/kubelet.key
containerRuntimeEndpoint: unix://{CONTAINERD}
cgroupDriver: cgroupfs
cgroupRoot: /pods
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
oomScoreAdj: 0
maxOpenFiles: {setup.open_files}
clusterDNS: [{setup.dns}]
clusterDomain: cluster.local
resolvConf: /etc/resolv.conf
nodeStatusUpdateFrequency: 5s
registerWithTaints: [{taints}]
imageGCHighThresholdPercent: 100
evictionHard: {{memory.available: 50Mi, nodefs.available: 1%, imagefs.available: 1%}}
"""
