# SPDX-License-Identifier: Apache-2.0
"""Where objects and settings come from, by the command line: files, or a cluster's API."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from kubypass.agent.options import Options
from kubypass.agent.source.source import Manifests
from kubypass.errors import ConfigError
from kubypass.kube.client.access import Access, ApiAddress, parse_server
from kubypass.kube.client.client import Client
from kubypass.kube.client.in_cluster import is_in_cluster, read_in_cluster, service_addresses
from kubypass.kube.client.kubeconfig import named_kubeconfigs, read_kubeconfig
from kubypass.kube.config_maps import parse_name
from kubypass.kube.watch.api_source import ApiSource
from kubypass.model.address import Address, format_address, parse_address
from kubypass.settings.parse import NS_PER_S
from kubypass.settings.settings import Settings


def open_source(
    options: Options, settings: Settings, environment: Mapping[str, str] = os.environ
) -> Manifests | ApiSource:
    """The source that the options name; ConfigError says what is missing."""
    if options.manifests is not None:
        return Manifests(options.manifests, proxy_name=settings.services.proxy_name)
    access = read_access(options.kubeconfig, environment).at(servers_of(settings))
    refuse_own_service(access, map(parse_address, service_addresses(environment)), settings)
    name = parse_name(options.config_map) if options.config_map else None
    return ApiSource(Client(access), options.node, name)


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


def use_settings(source: Manifests | ApiSource, settings: Settings) -> None:
    """What settings say of the source itself; those of a ConfigMap are known later than it."""
    if isinstance(source, ApiSource):
        access = source.client.access.at(servers_of(settings))
        refuse_own_service(access, (), settings)
        source.client.use(access)
        source.proxy_name = settings.services.proxy_name
        source.heartbeat_s = settings.kubernetes.heartbeat_timeout_ns / NS_PER_S


def servers_of(settings: Settings) -> list[ApiAddress]:
    """The addresses of API servers that the settings name."""
    return [parse_server(url, "k8s-api-server-urls") for url in settings.kubernetes.api_server_urls]


def refuse_own_service(access: Access, services: Iterable[Address], settings: Settings) -> None:
    """ConfigError where a server's address is that of a service: we are to serve it, and need it before we can."""
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
    """Of a name, as far as it resolves."""
    try:
        return {parse_address(host)}
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {parse_address(str(place[0]).partition("%")[0]) for *_, place in found}
