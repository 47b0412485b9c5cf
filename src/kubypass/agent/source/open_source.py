# SPDX-License-Identifier: Apache-2.0
"""Opens the source of cluster objects that the command line names: files, or a cluster's API."""

from __future__ import annotations

import os
from collections.abc import Mapping

from kubypass.agent.options import Options
from kubypass.agent.source.api_access import read_access, refuse_own_service, servers_of
from kubypass.agent.source.kubernetes_api import KubernetesApi
from kubypass.agent.source.manifests import Manifests
from kubypass.agent.source.source import Source
from kubypass.kube.client.client import Client
from kubypass.kube.client.in_cluster import service_addresses
from kubypass.kube.config_maps import parse_name
from kubypass.kube.watch.api_source import ApiSource
from kubypass.model.address import parse_address
from kubypass.settings.settings import Settings


def open_source(
    options: Options, settings: Settings, environment: Mapping[str, str] = os.environ
) -> Source:
    """The source that the options name; ConfigError says what is missing."""
    if options.manifests is not None:
        return Manifests(options.manifests, proxy_name=settings.services.proxy_name)
    access = read_access(options.kubeconfig, environment).with_servers(servers_of(settings))
    refuse_own_service(access, map(parse_address, service_addresses(environment)), settings)
    place = options.config_map
    name = parse_name(place, options.node_configs) if place else None
    return KubernetesApi(ApiSource(Client(access), options.node, name))
