# SPDX-License-Identifier: Apache-2.0
"""A real etcd and API server, and connections to it that write fast.

No controller runs, so nothing else changes an object. The next run removes what a killed run left.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network
from pathlib import Path

from kubypass.errors import KubypassError
from kubypass.kernel import mounts
from kubypass.kernel.netns import inside
from kubypass_lab.bench.cluster import Object
from kubypass_lab.bench.kubernetes_objects import (
    BACKENDS,
    GATEWAY,
    NODE_PREFIX,
    POD_CIDR,
    SERVICE_CIDR,
    node_address,
    node_name,
)
from kubypass_lab.box import wiring
from kubypass_lab.box.kubernetes import cluster, control_plane, pki
from kubypass_lab.box.kubernetes.paths import ClusterPaths, cluster_names
from kubypass_lab.box.kubernetes.programs import build_programs
from kubypass_lab.box.paths import CLIENT, FABRIC
from kubypass_lab.box.topology import PlannedNode, Topology

PROGRAMS = ("etcd", "kube-apiserver", "kube-proxy")
KUBE_PROXY = pki.Identity("kube-proxy", "system:kube-proxy")
KUBYPASS = pki.Identity("kubypass", "kubypass")
_NAME = "bench"
_ANSWER_S = 60.0
_IDLE_S = 30.0
"""The API server closes a connection that is idle for 90 s, so idle ones are opened again before."""
_WRITERS = 32
"""There are many, because the API server creates a service by several writes in turn, and mostly waits."""
_PATHS = {
    "Node": "/api/v1/nodes",
    "Service": "/api/v1/namespaces/default/services",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
}
_GOOD = (200, 201)

Say = Callable[[str], None]


class Writer:
    """A connection as the administrator. One thread at a time may use it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = self._connect()
        self._used = time.monotonic()

    def _connect(self) -> http.client.HTTPConnection:
        with inside(self._server.paths.fabric):
            plain = socket.create_connection((str(GATEWAY), control_plane.PORT), _ANSWER_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made = http.client.HTTPConnection(str(GATEWAY), control_plane.PORT)
        made.sock = self._server.context.wrap_socket(plain, server_hostname=str(GATEWAY))
        return made

    def create(self, item: Object) -> None:
        """POST an object."""
        self._send("POST", _path(item), item)

    def replace(self, item: Object) -> None:
        """PUT an object, whatever its version. Returns when the API server has answered."""
        self._send("PUT", f"{_path(item)}/{_name_of(item)}", item)

    def _send(self, method: str, path: str, item: Object) -> None:
        try:
            if time.monotonic() - self._used > _IDLE_S:
                self._http.close()
                self._http = self._connect()
            headers = {"Content-Type": "application/json"}
            self._http.request(method, path, json.dumps(item), headers)
            answer = self._http.getresponse()
            body = answer.read()
            self._used = time.monotonic()
        except (OSError, http.client.HTTPException) as error:
            raise KubypassError(
                f"the API server does not answer {method} {path}: {error}"
            ) from None
        if answer.status not in _GOOD:
            said = json.loads(body).get("message", "")
            raise KubypassError(f"{method} {path}, {_name_of(item)}: {answer.status} {said}")

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


def _path(item: Object) -> str:
    return _PATHS[str(item["kind"])]


def _name_of(item: Object) -> str:
    metadata = item["metadata"]
    return str(metadata["name"]) if isinstance(metadata, dict) else ""


@dataclass(frozen=True, slots=True)
class Server:
    """An API server that is up, with its network."""

    paths: ClusterPaths
    topology: Topology
    context: ssl.SSLContext

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """A connection that is open for the length of a block."""
        made = Writer(self)
        try:
            yield made
        finally:
            made.close()

    def kubeconfig(self, identity: pki.Identity) -> Path:
        """The kubeconfig of a proxy."""
        return self.paths.pki / f"{identity.file}.conf"

    def create_all(self, items: Iterable[Object]) -> None:
        """Create objects over several connections. The first failure ends it."""
        source, lock, failed = iter(items), threading.Lock(), list[KubypassError]()

        def work(writer: Writer) -> None:
            while not failed:
                with lock:
                    item = next(source, None)
                if item is None:
                    return
                try:
                    writer.create(item)
                except KubypassError as error:
                    failed.append(error)

        with ExitStack() as stack:
            writers = [stack.enter_context(self.writer()) for _ in range(_WRITERS)]
            threads = [threading.Thread(target=work, args=[writer]) for writer in writers]
            for thread in threads:
                thread.start()
            try:
                for thread in threads:
                    thread.join()
            except BaseException:
                failed.append(KubypassError("interrupted"))
                for thread in threads:
                    thread.join()
                raise
        if failed:
            raise failed[0]


@contextmanager
def api_server(nodes: int, say: Say) -> Iterator[Server]:
    """A control plane with a network for `nodes` nodes, for the length of a block."""
    _clear_what_was_left(say)
    build_programs(PROGRAMS, say)
    paths, topology = ClusterPaths(f"{_NAME}{os.getpid()}"), _topology(nodes)
    try:
        paths.root.mkdir(parents=True)
        wiring.make_fabric(paths, topology)
        # Every connection of a burst to a service that does not exist yet gets its ICMP error: there is no rate limit.
        limits = ("net.ipv4.icmp_ratelimit=0", "net.ipv4.icmp_msgs_per_sec=1000000")
        wiring.set_sysctls(paths.namespace(FABRIC), limits, optional=True)
        lines = [f"address replace {backend}/24 dev eth0" for backend in BACKENDS]
        wiring.ip_batch(paths.namespace(CLIENT), lines)
        control_plane.make_identities(paths, topology)
        for identity in (KUBE_PROXY, KUBYPASS):
            pki.make_certificate(paths.pki, identity)
            pki.write_kubeconfig(paths.pki, identity, control_plane.server_url(topology))
        control_plane.start_api(paths, topology)
        control_plane.wait_api(paths, topology)
        yield Server(paths, topology, _context(paths.pki))
    finally:
        _take_away(paths.name)


def bpffs(paths: ClusterPaths) -> Path:
    """The mount point of a node's bpf filesystem."""
    return paths.root / "bpf"


def _topology(nodes: int) -> Topology:
    planned = tuple(
        PlannedNode(
            name=node_name(number),
            alias=f"node{number}",
            addresses=(ip_interface(f"{node_address(number)}/{NODE_PREFIX}"),),
            pod_cidrs=(),
        )
        for number in range(nodes)
    )
    gateways = (ip_interface(f"{GATEWAY}/{NODE_PREFIX}"),)
    return Topology(planned, gateways, (ip_network(POD_CIDR),), (ip_network(SERVICE_CIDR),))


def _context(directory: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=directory / "ca.crt")
    context.load_cert_chain(directory / "admin.crt", directory / "admin.key")
    return context


def _take_away(name: str) -> None:
    paths = ClusterPaths(name)
    if mounts.is_bpffs(bpffs(paths)):
        mounts.unmount(bpffs(paths))
    cluster.down(name, lambda _: None)


def _clear_what_was_left(say: Say) -> None:
    for name in cluster_names():
        found = re.fullmatch(rf"{_NAME}(\d+)", name)
        if found and not Path(f"/proc/{found[1]}").exists():
            say(f"taking away what process {found[1]} left")
            _take_away(name)
