# SPDX-License-Identifier: Apache-2.0
"""Reads the hosts, their addresses and the CIDRs from a KubeKey cluster file."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from kubypass.errors import ConfigError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,38}[a-z0-9])?")
_RESERVED = {"fabric", "client"}


@dataclass(frozen=True, slots=True)
class Host:
    """One entry of `spec.hosts`."""

    name: str
    addresses: tuple[IPAddress, ...]  # internalAddress if there is one, else address
    labels: tuple[tuple[str, str], ...] = ()  # labels of the host's Node object


@dataclass(frozen=True, slots=True)
class KubeKey:
    """What a KubeKey file says about the network."""

    hosts: tuple[Host, ...]
    pod_cidrs: tuple[IPNetwork, ...]
    service_cidrs: tuple[IPNetwork, ...]


def read_kubekey(path: Path) -> KubeKey:
    """Read the first document of kind Cluster in `path`; ConfigError names the wrong field."""
    try:
        documents = list(yaml.safe_load_all(path.read_text()))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", "give a KubeKey file with -f") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    for document in documents:
        if isinstance(document, dict) and document.get("kind") == "Cluster":
            return parse_kubekey(document, str(path))
    raise ConfigError(
        f"{path}: no document of kind Cluster", "see examples/guide/config-sample.yaml"
    )


def parse_kubekey(document: dict[str, object], where: str) -> KubeKey:
    """Parse one Cluster object. Error messages call the file `where`."""
    spec = _mapping(document.get("spec"), f"{where}: spec")
    network = _mapping(spec.get("network"), f"{where}: spec.network")
    pods = _cidrs(network.get("kubePodsCIDR"), f"{where}: spec.network.kubePodsCIDR")
    services = _cidrs(network.get("kubeServiceCIDR"), f"{where}: spec.network.kubeServiceCIDR")
    for pod in pods:
        for service in services:
            if pod.version == service.version and pod.overlaps(service):
                message = (
                    f"{where}: spec.network: kubePodsCIDR {pod} overlaps kubeServiceCIDR {service}"
                )
                raise ConfigError(message, "choose two ranges that share no address")
    if {cidr.version for cidr in pods} != {cidr.version for cidr in services}:
        raise ConfigError(
            f"{where}: spec.network: kubePodsCIDR and kubeServiceCIDR have different IP families"
        )
    entries = spec.get("hosts")
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{where}: spec.hosts: expected a list with at least one host")
    hosts = tuple(
        _host(entry, f"{where}: spec.hosts[{index}]") for index, entry in enumerate(entries)
    )
    _check_unique(hosts, where)
    return KubeKey(hosts, pods, services)


def _check_unique(hosts: tuple[Host, ...], where: str) -> None:
    names = [host.name for host in hosts]
    addresses = [str(address) for host in hosts for address in host.addresses]
    for texts in (names, addresses):
        for text in texts:
            if texts.count(text) > 1:
                raise ConfigError(f"{where}: spec.hosts: {text} appears twice")


def _mapping(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected a mapping, found {type(value).__name__}")
    return value


def _cidrs(value: object, where: str) -> tuple[IPNetwork, ...]:
    if not isinstance(value, str):
        raise ConfigError(f"{where}: expected a CIDR such as 10.233.64.0/18, found {value!r}")
    networks = []
    for text in value.split(","):
        try:
            networks.append(ipaddress.ip_network(text.strip()))
        except ValueError as error:
            raise ConfigError(
                f"{where}: {error}", "expected a CIDR such as 10.233.64.0/18"
            ) from error
    if len({network.version for network in networks}) != len(networks):
        raise ConfigError(f"{where}: {value}: expected one CIDR, or one of each IP family")
    return tuple(networks)


def _is_reserved(name: str) -> bool:
    """Whether something else in the box has a namespace of this name: the fabric, the client, or a pod."""
    return name in _RESERVED or name.startswith("pod.")


def _host(entry: object, where: str) -> Host:
    fields = _mapping(entry, where)
    name = fields.get("name")
    if not isinstance(name, str) or not _HOST_NAME.fullmatch(name) or _is_reserved(name):
        raise ConfigError(f"{where}.name: {name!r}: expected a host name of at most 40 characters")
    text = fields.get("internalAddress") or fields.get("address")
    if not isinstance(text, str):
        raise ConfigError(f"{where}.internalAddress: expected an IP address, found {text!r}")
    addresses = []
    for part in text.split(","):
        try:
            addresses.append(ipaddress.ip_address(part.strip()))
        except ValueError as error:
            raise ConfigError(f"{where}.internalAddress: {error}") from error
    if len({address.version for address in addresses}) != len(addresses):
        raise ConfigError(
            f"{where}.internalAddress: {text}: expected at most one address of each IP family"
        )
    return Host(name, tuple(addresses), _labels(fields.get("labels"), f"{where}.labels"))


def _labels(value: object, where: str) -> tuple[tuple[str, str], ...]:
    labels = _mapping(value or {}, where)
    for key, text in labels.items():
        if not isinstance(text, str):
            raise ConfigError(f"{where}.{key}: expected text, found {text!r}")
    return tuple((str(key), str(text)) for key, text in labels.items())
