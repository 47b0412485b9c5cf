# SPDX-License-Identifier: Apache-2.0
"""Gives out pod addresses, ClusterIPs and node ports, as Kubernetes' allocators do but with no state of their own:
what is taken is read from the objects that hold it, and where a free one is looked for first depends on the name.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection

from kubypass.box.files import Json
from kubypass.box.kubekey import IPAddress, IPNetwork
from kubypass.box.objects import Applied, Service
from kubypass.errors import KubypassError

FIRST_POD = 14  # the guide's first pod is 10.233.64.14: lower ones are left to the node
NODE_PORTS = range(30000, 32768)
VERSIONS = {"IPv4": 4, "IPv6": 6}
FAMILIES = {4: "IPv4", 6: "IPv6"}


def next_pod_address(cidr: IPNetwork, taken: Collection[IPAddress], last: IPAddress | None) -> IPAddress:
    """The first free address after `last`, so that one just given back is not used again at once."""
    first, size = FIRST_POD, min(cidr.num_addresses, 65536)
    if size <= first + 1:
        first = 2
    count = size - first - 1  # the highest is the broadcast address
    begin = 0 if last is None or last not in cidr else int(last) - int(cidr.network_address) - first + 1
    for step in range(count):
        address = cidr.network_address + first + (begin + step) % count
        if address not in taken:
            return address
    raise KubypassError(f"no pod address is free in {cidr}", "scale something down, or use a larger kubePodsCIDR")


def complete_service(applied: Applied, old: Json | None, others: list[Json], cidrs: tuple[IPNetwork, ...]) -> Json:
    """The Service as the API server would store it: ClusterIPs, families and node ports filled in.

    `old` is the Service as stored before, whose addresses and ports are kept; `others` are all other Services.
    """
    service = applied.object
    assert isinstance(service, Service)
    spec = dict(_mapping(applied.raw.get("spec")))
    spec.setdefault("type", service.spec.type)
    result: Json = {**applied.raw, "spec": spec}
    if service.spec.type == "ExternalName":
        return result
    old_spec = _mapping((old or {}).get("spec"))
    other_specs = [(_full_name(other), _mapping(other.get("spec"))) for other in others]
    spec.update(_cluster_ips(applied, old_spec, other_specs, cidrs))
    spec["ports"] = _ports(applied, old_spec, other_specs)
    return result


def service_versions(spec: Json) -> list[int]:
    """IP versions of a stored Service, in its own order."""
    families = spec.get("ipFamilies")
    return [VERSIONS[str(each)] for each in families] if isinstance(families, list) else []


def _cluster_ips(applied: Applied, old: Json, others: list[tuple[str, Json]], cidrs: tuple[IPNetwork, ...]) -> Json:
    service = applied.object
    assert isinstance(service, Service)
    asked = list(service.spec.cluster_ips or ([service.spec.cluster_ip] if service.spec.cluster_ip else []))
    versions = _versions(applied, asked, cidrs)
    families = [FAMILIES[version] for version in versions]
    policy = service.spec.family_policy or "SingleStack"
    if asked == ["None"]:
        return {"clusterIP": "None", "clusterIPs": ["None"], "ipFamilies": families, "ipFamilyPolicy": policy}
    taken = {text: name for name, spec in others for text in _texts(spec.get("clusterIPs"))}
    kept = {ipaddress.ip_address(text).version: text for text in _texts(old.get("clusterIPs")) if text != "None"}
    given = {ipaddress.ip_address(text).version: text for text in asked}
    result = []
    for version in versions:
        cidr = next(each for each in cidrs if each.version == version)
        text = given.get(version) or kept.get(version)
        if text is None:
            text = _free_cluster_ip(applied, cidr, taken)
        elif ipaddress.ip_address(text) not in cidr:
            raise applied.wrong("spec.clusterIP", f"{text} is not in kubeServiceCIDR {cidr}", "leave it out")
        text = str(ipaddress.ip_address(text))
        if text in taken:
            raise applied.wrong("spec.clusterIP", f"{text} is the address of {taken[text]}", "leave it out")
        result.append(text)
    return {"clusterIP": result[0], "clusterIPs": result, "ipFamilies": families, "ipFamilyPolicy": policy}


def _versions(applied: Applied, asked: list[str], cidrs: tuple[IPNetwork, ...]) -> list[int]:
    """IP versions that the Service gets, after its ipFamilies and ipFamilyPolicy."""
    service = applied.object
    assert isinstance(service, Service)
    available = [cidr.version for cidr in cidrs]
    if asked == ["None"] or not asked:
        wanted = [VERSIONS[family] for family in service.spec.families or ()]
    else:
        try:
            wanted = [ipaddress.ip_address(text).version for text in asked]
        except ValueError as error:
            raise applied.wrong("spec.clusterIP", f"{error}; expected an address, None, or nothing") from error
    for version in wanted:
        if version not in available:
            ranges = ", ".join(map(str, cidrs))
            raise applied.wrong("spec.ipFamilies", f"the box has no {FAMILIES[version]} services (only {ranges})")
    policy = service.spec.family_policy or "SingleStack"
    if policy == "RequireDualStack" and len(available) < 2:
        raise applied.wrong("spec.ipFamilyPolicy", f"RequireDualStack, but the box has only {FAMILIES[available[0]]}")
    wanted = wanted or available[:1]
    if policy != "SingleStack":
        wanted += [version for version in available if version not in wanted]
    return wanted


def _free_cluster_ip(applied: Applied, cidr: IPNetwork, taken: Collection[str]) -> str:
    size = min(cidr.num_addresses, 65536) - 2
    begin = _position(applied.key, size)
    for step in range(size):
        text = str(cidr.network_address + 1 + (begin + step) % size)
        if text not in taken:
            return text
    raise applied.wrong("spec.clusterIP", f"no address of kubeServiceCIDR {cidr} is free")


def _ports(applied: Applied, old: Json, others: list[tuple[str, Json]]) -> list[Json]:
    service = applied.object
    assert isinstance(service, Service)
    spec = service.spec
    node_ports = spec.type == "NodePort" or (spec.type == "LoadBalancer" and spec.allocate_node_ports)
    kept = {(port.get("port"), port.get("protocol")): port.get("nodePort") for port in _ports_of(old)}
    taken = {
        (port.get("nodePort"), port.get("protocol")): name
        for name, other in others
        for port in _ports_of(other)
        if port.get("nodePort")
    }
    result: list[Json] = []
    for index, port in enumerate(spec.ports or ()):
        entry: Json = {"name": port.name} if port.name else {}
        entry |= {"port": port.port, "protocol": port.protocol, "targetPort": port.target_port or port.port}
        field = f"spec.ports[{index}].nodePort"
        if port.node_port and not node_ports and spec.type != "LoadBalancer":
            raise applied.wrong(field, f"may not be set when type is {spec.type}", "use type: NodePort")
        if port.node_port and port.node_port not in NODE_PORTS:
            raise applied.wrong(field, f"{port.node_port} is not in 30000-32767")
        number = port.node_port or kept.get((port.port, port.protocol)) or 0
        if node_ports or port.node_port:
            number = number or _free_node_port(applied, port.port, port.protocol, taken)
            owner = taken.get((number, port.protocol))
            if owner:
                raise applied.wrong(field, f"{number}/{port.protocol} is the node port of {owner}", "choose another")
            taken[(number, port.protocol)] = f"port {port.port} of the same Service"
            entry["nodePort"] = number
        result.append(entry)
    return result


def _free_node_port(applied: Applied, port: int, protocol: str, taken: Collection[tuple[object, object]]) -> int:
    begin = _position(f"{applied.key}/{port}/{protocol}", len(NODE_PORTS))
    for step in range(len(NODE_PORTS)):
        number = NODE_PORTS[(begin + step) % len(NODE_PORTS)]
        if (number, protocol) not in taken:
            return number
    raise applied.wrong("spec.ports", "no node port is free")


def _position(text: str, size: int) -> int:
    """Where to look first: the same for the same name, spread over the range."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % size


def _mapping(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _texts(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _ports_of(spec: Json) -> list[Json]:
    ports = spec.get("ports")
    return [port for port in ports if isinstance(port, dict)] if isinstance(ports, list) else []


def _full_name(raw: Json) -> str:
    metadata = _mapping(raw.get("metadata"))
    return f"Service {metadata.get('namespace', 'default')}/{metadata.get('name')}"
