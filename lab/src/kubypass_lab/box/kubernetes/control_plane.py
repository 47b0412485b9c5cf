# SPDX-License-Identifier: Apache-2.0
"""The control plane: etcd, API server, controller manager and scheduler, in the fabric's namespace."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kubypass.errors import KubypassError
from kubypass.model.address import in_brackets
from kubypass_lab.box.files import read_json, write_json
from kubypass_lab.box.kubernetes import pki
from kubypass_lab.box.kubernetes.paths import ClusterPaths
from kubypass_lab.box.kubernetes.programs import VERSION, policy_api
from kubypass_lab.box.paths import FABRIC
from kubypass_lab.box.patience import DEADLINE_S
from kubypass_lab.box.process import (
    is_alive,
    last_line,
    parse_process,
    run,
    spawn,
    wait_until,
)
from kubypass_lab.box.topology import Topology

PORT = 6443
READY_S = 4 * DEADLINE_S
ETCD = "http://127.0.0.1:2379"
CONTROL_PLANE_CGROUP = "control-plane"
_STARTS = 3
_HEALTH = {"kube-controller-manager": 10257, "kube-scheduler": 10259}


@dataclass(frozen=True, slots=True)
class Ranges:
    """The addresses and CIDRs that the control plane is configured with."""

    address: str  # of the API server, which needs one of its services' first family
    services: str  # comma-separated
    pods: str  # comma-separated
    masks: tuple[str, ...]  # flags of the controller manager for the size of a node's pod CIDR


def ranges_of(topology: Topology) -> Ranges:
    """The ranges of a topology."""
    return Ranges(
        str(topology.gateway),
        ",".join(map(str, topology.service_cidrs)),
        ",".join(map(str, topology.pod_cidrs)),
        _masks(topology),
    )


def _masks(topology: Topology) -> tuple[str, ...]:
    """The flags for the size of a node's pod CIDR. Their names differ between one family and two."""
    slices = topology.nodes[0].pod_cidrs if topology.nodes else ()
    if len(slices) == 1:
        return (f"--node-cidr-mask-size={slices[0].prefixlen}",)
    return tuple(f"--node-cidr-mask-size-ipv{each.version}={each.prefixlen}" for each in slices)


def server_url(topology: Topology) -> str:
    """The URL of the API server at its address, not at its Service's."""
    return f"https://{in_brackets(str(topology.gateway))}:{PORT}"


def make_identities(paths: ClusterPaths, topology: Topology) -> None:
    """Make the certificate authority, and the certificates and kubeconfigs of the control plane."""
    services = [cidr.network_address + 1 for cidr in topology.service_cidrs]
    pki.make_authority(paths.pki)
    addresses = [*(gateway.ip for gateway in topology.gateways), *services]
    for identity in (pki.api_server(addresses), pki.KUBELET_CLIENT, pki.FRONT_PROXY):
        pki.make_certificate(paths.pki, identity)
    for identity in (pki.ADMIN, pki.CONTROLLER_MANAGER, pki.SCHEDULER):
        pki.make_certificate(paths.pki, identity)
        pki.write_kubeconfig(paths.pki, identity, server_url(topology))


def etcd_arguments(directory: Path) -> list[str]:
    """Arguments of etcd, on loopback and without fsync: a test cluster does not outlive its machine."""
    return [
        f"--data-dir={directory}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--log-level=warn",
    ]


def api_server_arguments(directory: Path, ranges: Ranges, version: str = VERSION) -> list[str]:
    """The API server with TLS, RBAC, the node authorizer and signed service accounts.

    MutatingAdmissionPolicy serves the policy that keeps `image: nginx` from being pulled.
    """
    issuer = "https://kubernetes.default.svc.cluster.local"
    return [
        f"--etcd-servers={ETCD}",
        f"--advertise-address={ranges.address}",
        f"--secure-port={PORT}",
        f"--tls-cert-file={directory}/apiserver.crt",
        f"--tls-private-key-file={directory}/apiserver.key",
        f"--client-ca-file={directory}/ca.crt",
        f"--kubelet-client-certificate={directory}/kubelet-client.crt",
        f"--kubelet-client-key={directory}/kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-issuer={issuer}",
        f"--service-account-key-file={directory}/sa.pub",
        f"--service-account-signing-key-file={directory}/sa.key",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--feature-gates=MutatingAdmissionPolicy=true",
        f"--runtime-config=admissionregistration.k8s.io/{policy_api(version)}=true",
        f"--requestheader-client-ca-file={directory}/ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={directory}/front-proxy-client.crt",
        f"--proxy-client-key-file={directory}/front-proxy-client.key",
        f"--service-cluster-ip-range={ranges.services}",
        "--allow-privileged=true",
        "--profiling=false",
    ]


def controller_manager_arguments(directory: Path, ranges: Ranges) -> list[str]:
    """All controllers, each with its service account; one of them gives nodes their pod CIDRs."""
    return [
        *_client_arguments(directory, "controller-manager"),
        "--use-service-account-credentials",
        f"--service-account-private-key-file={directory}/sa.key",
        f"--root-ca-file={directory}/ca.crt",
        f"--cluster-signing-cert-file={directory}/ca.crt",
        f"--cluster-signing-key-file={directory}/ca.key",
        "--allocate-node-cidrs",
        f"--cluster-cidr={ranges.pods}",
        *ranges.masks,
        f"--service-cluster-ip-range={ranges.services}",
    ]


def scheduler_arguments(directory: Path) -> list[str]:
    """The scheduler."""
    return _client_arguments(directory, "scheduler")


def _client_arguments(directory: Path, name: str) -> list[str]:
    kubeconfig = directory / f"{name}.conf"
    return [
        *(f"--{kind}kubeconfig={kubeconfig}" for kind in ("", "authentication-", "authorization-")),
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--profiling=false",
    ]


def start_api(paths: ClusterPaths, topology: Topology) -> None:
    """Start etcd, and the API server, which waits for etcd."""
    _start(paths, "etcd", etcd_arguments(paths.root / "etcd"))
    start_api_server(paths, topology)


def start_api_server(paths: ClusterPaths, topology: Topology) -> None:
    """Start the API server, for the first time or again."""
    arguments = api_server_arguments(paths.pki, ranges_of(topology), paths.version)
    _start(paths, "kube-apiserver", arguments)


def wait_api(paths: ClusterPaths, topology: Topology) -> None:
    """Wait until the API server is ready. KubypassError: it is not, with the end of its log.

    On a slow machine, a hook of its start may give up, which ends it: it is started again, as kubelet would.
    """
    name, url = "kube-apiserver", f"{server_url(topology)}/readyz"
    for _ in range(_STARTS - 1):
        try:
            return _wait(paths, name, url)
        except KubypassError:
            if is_alive(parse_process(read_json(paths.process_record(name)))):
                raise
            start_api_server(paths, topology)
    return _wait(paths, name, url)


def start_controllers(paths: ClusterPaths, topology: Topology, *, scheduler: bool = True) -> None:
    """Start the controllers and wait for them. They would exit if the API server were not ready."""
    arguments = controller_manager_arguments(paths.pki, ranges_of(topology))
    _start(paths, "kube-controller-manager", arguments)
    if scheduler:
        _start(paths, "kube-scheduler", scheduler_arguments(paths.pki))
    for name, port in _HEALTH.items():
        if scheduler or name != "kube-scheduler":
            _wait(paths, name, f"https://127.0.0.1:{port}/healthz")


def _start(paths: ClusterPaths, name: str, arguments: list[str]) -> None:
    cgroup = paths.node_cgroup(CONTROL_PLANE_CGROUP)
    cgroup.mkdir(parents=True, exist_ok=True)
    paths.logs.mkdir(parents=True, exist_ok=True)
    process = spawn(
        [str(paths.programs / name), *arguments],
        cgroup=cgroup,
        namespace=paths.namespace(FABRIC),
        log=paths.logs / f"{name}.log",
        env={},
    )
    write_json(paths.process_record(name), process.describe())


def _wait(paths: ClusterPaths, name: str, url: str) -> None:
    """Wait until a program answers. KubypassError: it ended or does not answer, with the end of its log."""
    client = ["--cert", str(paths.pki / "admin.crt"), "--key", str(paths.pki / "admin.key")]
    command = ["curl", "-skf", "-m", "5", "-o", "/dev/null", *client, url]
    process = parse_process(read_json(paths.process_record(name)))

    def ready() -> bool:
        try:
            run(["nsenter", f"--net={paths.fabric}", "--", *command])
        except KubypassError:
            return False
        return True

    settled = wait_until(lambda: ready() or not is_alive(process), READY_S)
    if not is_alive(process):
        raise KubypassError(f"{name} ended: {last_line(paths.logs / f'{name}.log')}")
    if not settled:
        said = last_line(paths.logs / f"{name}.log")
        raise KubypassError(f"{name} is not ready after {READY_S:.0f} s: {said}")
