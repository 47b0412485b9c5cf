# SPDX-License-Identifier: Apache-2.0
"""Access of a pod: its service account, and the API server that its environment names.

The kubelet sets the address of the service `default/kubernetes`, which the agent itself serves: after a restart, a node
would wait for itself. So the DaemonSet sets KUBERNETES_SERVICE_HOST to a server's address. The kubelet's value stays
visible in KUBERNETES_PORT_443_TCP_ADDR.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from kubypass.errors import ConfigError
from kubypass.kube.client.access import Access, Trust, parse_server
from kubypass.kube.client.credentials import TokenFile

_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
DIRECTORY = "KUBYPASS_SERVICE_ACCOUNT"
"""The environment variable that names another directory of the service account."""
HOST, PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"
_HOW_TO_CHANGE = (
    "set KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT of the DaemonSet to an API server's own address (chart: "
    "k8sServiceHost, k8sServicePort), or k8s-api-server-urls"
)
_SERVICE_ADDRESS = re.compile(r"KUBERNETES_PORT_[0-9]+_(TCP|UDP|SCTP)_ADDR")


def is_in_cluster(environment: Mapping[str, str]) -> bool:
    """Whether this process runs in a pod."""
    return bool(environment.get(HOST))


def service_addresses(environment: Mapping[str, str]) -> frozenset[str]:
    """The addresses of the service `default/kubernetes`, which the kubelet gives to every pod."""
    found = (value for name, value in environment.items() if _SERVICE_ADDRESS.fullmatch(name))
    return frozenset(found)


def read_in_cluster(environment: Mapping[str, str]) -> Access:
    """Reads the access from the environment that the kubelet or the DaemonSet has set. Raises ConfigError."""
    directory = Path(environment.get(DIRECTORY) or _SERVICE_ACCOUNT)
    host, port = environment.get(HOST, ""), environment.get(PORT) or "443"
    bracketed = f"[{host}]" if ":" in host and not host.startswith("[") else host
    server = parse_server(f"https://{bracketed}:{port}", HOST)
    try:
        authority = (directory / "ca.crt").read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not PEM"
        hint = "automountServiceAccountToken: true, or give --kubeconfig"
        raise ConfigError(f"{directory / 'ca.crt'}: {reason}", hint) from None
    credentials = TokenFile(directory / "token")
    origin = "the service account"
    return Access((server,), Trust(authority), credentials, origin, _HOW_TO_CHANGE)
