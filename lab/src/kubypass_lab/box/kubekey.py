# SPDX-License-Identifier: Apache-2.0
"""Reads the hosts, their addresses and the CIDRs from a KubeKey cluster file.

Two forms are known: the kind Cluster (kk 1 to 3), and the kinds Inventory and Config of `kubekey.kubesphere.io/v1`
(kk 4), which may be documents of one file. What a file leaves out has KubeKey's own default.
"""

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
_V4 = "kubekey.kubesphere.io/v1"
_PODS, _SERVICES = "10.233.64.0/18", "10.233.0.0/18"
"""KubeKey's defaults, of each of its versions."""
_NODE_ROLES = ("control-plane", "master", "worker")
_NODE_GROUPS = ("kube_control_plane", "kube_worker")
_RANGE = re.compile(r"(.*)\[(\d+):(\d+)\]")


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
    """Read the first document of kind Cluster in `path`, or of kind Inventory; ConfigError names the wrong field."""
    try:
        documents = list(yaml.safe_load_all(path.read_text()))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", "give a KubeKey file with -f") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    found = [document for document in documents if isinstance(document, dict)]
    for document in found:
        if document.get("kind") == "Cluster":
            return parse_kubekey(document, str(path))
        if document.get("kind") == "Inventory" and document.get("apiVersion") == _V4:
            configs = [one for one in found if one.get("kind") == "Config"]
            return parse_inventory(document, configs[0] if configs else {}, str(path))
    raise ConfigError(
        f"{path}: no document of kind Cluster or, of kk 4, Inventory",
        "see examples/guide/config-sample.yaml; kk 4's Config belongs below its Inventory, after a line ---",
    )


def parse_kubekey(document: dict[str, object], where: str) -> KubeKey:
    """Parse one Cluster object. Error messages call the file `where`."""
    if document.get("spec") is None and "spec" in _mapping(
        document.get("metadata") or {}, f"{where}: metadata"
    ):
        message = f"{where}: metadata.spec: spec is a field of the document, not of its metadata"
        raise ConfigError(message, "indent spec as metadata is")
    spec = _mapping(document.get("spec"), f"{where}: spec")
    network = _mapping(spec.get("network") or {}, f"{where}: spec.network")
    pods = _cidrs(network.get("kubePodsCIDR") or _PODS, f"{where}: spec.network.kubePodsCIDR")
    services = _cidrs(
        network.get("kubeServiceCIDR") or _SERVICES, f"{where}: spec.network.kubeServiceCIDR"
    )
    _check_networks(pods, services, f"{where}: spec.network", ("kubePodsCIDR", "kubeServiceCIDR"))
    entries = spec.get("hosts")
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{where}: spec.hosts: expected a list with at least one host")
    hosts = [_host(entry, f"{where}: spec.hosts[{index}]") for index, entry in enumerate(entries)]
    roles = _mapping(spec.get("roleGroups") or {}, f"{where}: spec.roleGroups")
    nodes = _nodes(hosts, [roles.get(role) for role in _NODE_ROLES], f"{where}: spec.roleGroups")
    _check_unique(nodes, where)
    return KubeKey(nodes, pods, services)


def parse_inventory(document: dict[str, object], config: dict[str, object], where: str) -> KubeKey:
    """Parse kk 4's Inventory, and its Config, which may be empty."""
    spec = _mapping(document.get("spec"), f"{where}: spec")
    cni = _mapping(
        _mapping(config.get("spec") or {}, f"{where}: Config.spec").get("cni") or {},
        f"{where}: spec.cni",
    )
    pods = _cidrs(cni.get("pod_cidr") or _PODS, f"{where}: spec.cni.pod_cidr")
    services = _cidrs(cni.get("service_cidr") or _SERVICES, f"{where}: spec.cni.service_cidr")
    _check_networks(pods, services, f"{where}: spec.cni", ("pod_cidr", "service_cidr"))
    entries = _mapping(spec.get("hosts") or {}, f"{where}: spec.hosts")
    if not entries:
        raise ConfigError(
            f"{where}: spec.hosts: expected at least one host, such as node1: {{internal_ipv4: …}}"
        )
    hosts = [
        _inventory_host(name, entry, f"{where}: spec.hosts.{name}")
        for name, entry in entries.items()
    ]
    groups = _mapping(spec.get("groups") or {}, f"{where}: spec.groups")
    members = [
        _mapping(groups.get(name) or {}, f"{where}: spec.groups.{name}").get("hosts")
        for name in _NODE_GROUPS
    ]
    nodes = _nodes(hosts, members, f"{where}: spec.groups")
    _check_unique(nodes, where)
    return KubeKey(nodes, pods, services)


def _inventory_host(name: str, entry: object, where: str) -> Host:
    """A host of an Inventory; its addresses, else the one by which kk connects to it."""
    fields = _mapping(entry or {}, where)
    given = [str(fields[key]) for key in ("internal_ipv4", "internal_ipv6") if fields.get(key)]
    connector = _mapping(fields.get("connector") or {}, f"{where}.connector")
    address = ",".join(given) or connector.get("host")
    return _host({"name": name, "address": address}, where, "internal_ipv4")


def _nodes(hosts: list[Host], groups: list[object], where: str) -> tuple[Host, ...]:
    """The hosts that are nodes: those in these groups, or all where there are none. Others only have etcd or images."""
    names: set[str] = set()
    for group in groups:
        for member in group if isinstance(group, list) else ():
            if member is None:
                continue
            found = _RANGE.fullmatch(str(member))
            if found:
                numbers = range(int(found[2]), int(found[3]) + 1)
                names |= {f"{found[1]}{number}" for number in numbers}
            else:
                names.add(str(member))
    unknown = sorted(names - {host.name for host in hosts})
    if unknown:
        raise ConfigError(
            f"{where}: {unknown[0]} is none of the hosts",
            "add it to spec.hosts, or correct its name",
        )
    return tuple(host for host in hosts if host.name in names or not names)


def _check_networks(
    pods: tuple[IPNetwork, ...], services: tuple[IPNetwork, ...], where: str, names: tuple[str, str]
) -> None:
    for pod in pods:
        for service in services:
            if pod.version == service.version and pod.overlaps(service):
                message = f"{where}: {names[0]} {pod} overlaps {names[1]} {service}"
                raise ConfigError(message, "choose two ranges that share no address")
    if {cidr.version for cidr in pods} != {cidr.version for cidr in services}:
        raise ConfigError(f"{where}: {names[0]} and {names[1]} have different IP families")


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
            networks.append(ipaddress.ip_network(text.strip(), strict=False))  # as kubeadm does
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


def _host(entry: object, where: str, field: str = "internalAddress") -> Host:
    fields = _mapping(entry, where)
    name = fields.get("name")
    if not isinstance(name, str) or not _HOST_NAME.fullmatch(name) or _is_reserved(name):
        raise ConfigError(f"{where}.name: {name!r}: expected a host name of at most 40 characters")
    text = fields.get("internalAddress") or fields.get("address")
    if not isinstance(text, str):
        raise ConfigError(f"{where}.{field}: expected an IP address, found {text!r}")
    addresses = []
    for part in text.split(","):
        try:
            addresses.append(ipaddress.ip_address(part.strip()))
        except ValueError as error:
            raise ConfigError(f"{where}.{field}: {error}") from error
    if len({address.version for address in addresses}) != len(addresses):
        raise ConfigError(
            f"{where}.{field}: {text}: expected at most one address of each IP family"
        )
    return Host(name, tuple(addresses), _labels(fields.get("labels"), f"{where}.labels"))


def _labels(value: object, where: str) -> tuple[tuple[str, str], ...]:
    labels = _mapping(value or {}, where)
    for key, text in labels.items():
        if text is not None and not isinstance(text, str):
            raise ConfigError(f"{where}.{key}: expected text, found {text!r}")
    return tuple((str(key), str(text or "")) for key, text in labels.items())
