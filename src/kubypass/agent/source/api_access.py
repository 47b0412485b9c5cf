# SPDX-License-Identifier: Apache-2.0
"""How the agent reaches a cluster's API: by which credentials, and never by a service that it serves itself."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from kubypass.errors import ConfigError
from kubypass.kube.client.access import Access, ApiAddress, parse_server
from kubypass.kube.client.in_cluster import is_in_cluster, read_in_cluster
from kubypass.kube.client.kubeconfig import named_kubeconfigs, read_kubeconfig
from kubypass.model.address import Address, format_address, parse_address
from kubypass.settings.settings import Settings


def read_access(kubeconfig: Path | None, environment: Mapping[str, str]) -> Access:
    """Access to the API, by the first of: the argument, the pod's service account, KUBECONFIG."""
    if kubeconfig is not None:
        return read_kubeconfig([kubeconfig])
    if is_in_cluster(environment):
        return read_in_cluster(environment)
    if paths := named_kubeconfigs(environment):
        return read_kubeconfig(paths)
    raise ConfigError(
        "no source of services",
        hint="give --manifests PATH or --kubeconfig FILE, or run it as a pod",
    )


def servers_of(settings: Settings) -> list[ApiAddress]:
    """The addresses of API servers that the settings name."""
    return [parse_server(url, "k8s-api-server-urls") for url in settings.kubernetes.api_server_urls]


def refuse_own_service(access: Access, services: Iterable[Address], settings: Settings) -> None:
    """Raises ConfigError where a server has a service's address: we need the server before we can serve the service."""
    own = frozenset(services)
    for server in access.servers:
        for address in _addresses(server.host):
            within = [c for c in settings.services.cidrs if c.contains(address)]
            if address in own or within:
                what = f"in service-cidrs, {within[0]}" if within else "that of a Service"
                message = (
                    f"API server {server}: {format_address(address)} is {what}, which this agent is to "
                    "serve itself: after a restart of the node each would wait for the other"
                )
                raise ConfigError(message, hint=access.how_to_change)


def _addresses(host: str) -> set[Address]:
    """The addresses of a host; none where its name does not resolve."""
    try:
        return {parse_address(host)}
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {parse_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found}
