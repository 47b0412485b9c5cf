# SPDX-License-Identifier: Apache-2.0
"""A cluster's certificate authority, its certificates and kubeconfigs, made with openssl.

A certificate is an identity: its CN is the user, and its O is the group, as RBAC and the node authorizer use them.
https://kubernetes.io/docs/setup/best-practices/certificates/
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from kubypass_lab.box.process import run

DAYS = 3650
IPAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Identity:
    """The user that a certificate names, and the host names for which it may serve."""

    file: str  # name of the files of its key and certificate
    user: str
    group: str = ""
    serves: tuple[str, ...] = ()  # subjectAltName entries, such as IP:10.0.0.1

    @property
    def subject(self) -> str:
        """The subject in openssl's notation."""
        return f"{f'/O={self.group}' if self.group else ''}/CN={self.user}"


ADMIN = Identity("admin", "admin", "system:masters")
CONTROLLER_MANAGER = Identity("controller-manager", "system:kube-controller-manager")
SCHEDULER = Identity("scheduler", "system:kube-scheduler")
KUBELET_CLIENT = Identity("kubelet-client", "kube-apiserver-kubelet-client", "system:masters")
FRONT_PROXY = Identity("front-proxy-client", "front-proxy-client")


def api_server(addresses: list[IPAddress]) -> Identity:
    """The API server, at its addresses and its Service's."""
    service = "kubernetes.default.svc.cluster.local"
    parts = service.split(".")
    names = ["localhost", *(".".join(parts[:count]) for count in (1, 2, 3, 5))]
    serves = (
        *(f"IP:{address}" for address in (*addresses, "127.0.0.1")),
        *(f"DNS:{name}" for name in names),
    )
    return Identity("apiserver", "kube-apiserver", serves=serves)


def kubelet(node: str, addresses: list[IPAddress]) -> Identity:
    """A node's kubelet: client of the API server, and server of logs and exec."""
    serves = (*(f"IP:{address}" for address in addresses), f"DNS:{node}")
    return Identity(f"node-{node}", f"system:node:{node}", "system:nodes", serves)


def make_authority(directory: Path) -> None:
    """Make the authority `ca`, and the key pair `sa` that signs tokens of service accounts."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    key, certificate = directory / "ca.key", directory / "ca.crt"
    _make_key(key)
    name = ["-subj", "/CN=kubypass-box"]
    request = ["openssl", "req", "-x509", "-new", "-key", str(key), "-days", str(DAYS), *name]
    run([*request, "-out", str(certificate)])
    signer = directory / "sa.key"
    run(["openssl", "genrsa", "-out", str(signer), "2048"])
    run(["openssl", "rsa", "-in", str(signer), "-pubout", "-out", str(directory / "sa.pub")])


def make_certificate(directory: Path, identity: Identity, days: int = DAYS) -> None:
    """Make a key, and a certificate that the authority in `directory` signs; negative `days` make it expired."""
    key, request = directory / f"{identity.file}.key", directory / f"{identity.file}.csr"
    _make_key(key)
    subject = ["-subj", identity.subject]
    run(["openssl", "req", "-new", "-key", str(key), *subject, "-out", str(request)])
    extensions = directory / f"{identity.file}.ext"
    lines = ["extendedKeyUsage=serverAuth,clientAuth"]
    if identity.serves:
        lines.append(f"subjectAltName={','.join(identity.serves)}")
    extensions.write_text("\n".join(lines) + "\n")
    authority = ["-CA", str(directory / "ca.crt"), "-CAkey", str(directory / "ca.key")]
    sign = ["openssl", "x509", "-req", "-in", str(request), *authority, "-CAcreateserial"]
    out = ["-out", str(directory / f"{identity.file}.crt")]
    run([*sign, "-days", str(days), "-extfile", str(extensions), *out])
    request.unlink()
    extensions.unlink()


def write_kubeconfig(directory: Path, identity: Identity, server: str) -> Path:
    """Write the kubeconfig of `identity` beside its certificate. It refers to no other file."""
    path = directory / f"{identity.file}.conf"

    def inline(name: str) -> str:
        return base64.b64encode((directory / name).read_bytes()).decode()

    path.write_text(
        f"""apiVersion: v1
kind: Config
clusters:
- name: box
  cluster:
    server: {server}
    certificate-authority-data: {inline("ca.crt")}
users:
- name: {identity.file}
  user:
    client-certificate-data: {inline(f"{identity.file}.crt")}
    client-key-data: {inline(f"{identity.file}.key")}
contexts:
- name: box
  context: {{cluster: box, user: {identity.file}}}
current-context: box
"""
    )
    path.chmod(0o600)
    return path


def _make_key(path: Path) -> None:
    run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", str(path)])
    path.chmod(0o600)
