# SPDX-License-Identifier: Apache-2.0
"""Allocates pod addresses, ClusterIPs and node ports, as Kubernetes' allocators do.

The allocators keep no state: the objects say what is taken, and a name decides where the search for a free value
begins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from ipaddress import ip_address

import msgspec

from kubypass.errors import KubypassError
from kubypass_lab.box.files import Json, mapping
from kubypass_lab.box.kubekey import IPAddress, IPNetwork
from kubypass_lab.box.object_files import Applied
from kubypass_lab.box.objects import AffinityConfig, Service, ServiceSpec

FIRST_POD = 14  # the guide's first pod is 10.233.64.14; lower addresses belong to the node
NODE_PORTS = range(30000, 32768)
VERSIONS = {"IPv4": 4, "IPv6": 6}
FAMILIES: dict[int, str] = {4: "IPv4", 6: "IPv6"}

Cidrs = tuple[IPNetwork, ...]
NodePort = tuple[int, str]  # number and protocol


def next_pod_address(
    cidr: IPNetwork, taken: Collection[IPAddress], last: IPAddress | None
) -> IPAddress:
    """The first free address after `last`, so that a released address is not reused at once."""
    first, size = FIRST_POD, min(cidr.num_addresses, 65536)
    if size <= first + 1:
        first = 2
    count = size - first - 1  # the highest is the broadcast address
    begin = (
        0 if last is None or last not in cidr else int(last) - int(cidr.network_address) - first + 1
    )
    for step in range(count):
        address = cidr.network_address + first + (begin + step) % count
        if address not in taken:
            return address
    raise KubypassError(
        f"no pod address is free in {cidr}", "scale something down, or use a larger kubePodsCIDR"
    )


def complete_service(
    applied: Applied, service: Service, old: Service | None, others: list[Service], cidrs: Cidrs
) -> Json:
    """The Service as an API server would store it, with its ClusterIPs, families and node ports.

    `old` is the stored Service, whose addresses and ports are kept. `others` are all other Services.
    """
    spec: Json = {**mapping(applied.raw.get("spec")), "type": service.spec.type}
    if service.spec.type != "ExternalName":
        spec |= _cluster_ips(applied, service, old, others, cidrs)
        spec["ports"] = _ports(applied, service, old, others)
        spec |= _defaults(service.spec)
        if service.spec.has_health_check:
            spec["healthCheckNodePort"] = _health_check_port(applied, service, old, others, spec)
    return {**applied.raw, "spec": spec}


def _defaults(spec: ServiceSpec) -> Json:
    """The policies with the defaults that an API server fills in."""
    external = spec.type in ("NodePort", "LoadBalancer") or spec.external_ips
    defaults: Json = {
        "internalTrafficPolicy": spec.internal_traffic_policy or "Cluster",
        "sessionAffinity": spec.session_affinity or "None",
    }
    if external:
        defaults["externalTrafficPolicy"] = spec.external_traffic_policy or "Cluster"
    if spec.type == "LoadBalancer":
        defaults["allocateLoadBalancerNodePorts"] = spec.allocate_load_balancer_node_ports
    if spec.session_affinity == "ClientIP":
        config = spec.session_affinity_config or AffinityConfig()
        defaults["sessionAffinityConfig"] = msgspec.to_builtins(config)
    return defaults


def _cluster_ips(
    applied: Applied, service: Service, old: Service | None, others: list[Service], cidrs: Cidrs
) -> Json:
    asked = _asked(service)
    versions = _versions(applied, service, asked, cidrs)
    families = [FAMILIES[version] for version in versions]
    result = ["None"]
    if asked != ["None"]:
        taken = {text: _full_name(other) for other in others for text in _asked(other)}
        given: dict[int, str] = {ip_address(text).version: text for text in (*_kept(old), *asked)}
        result = []
        for version in versions:
            cidr = next(each for each in cidrs if each.version == version)
            text = given.get(version) or _free_cluster_ip(applied, cidr, taken)
            result.append(_check_cluster_ip(applied, text, cidr, taken))
    return {
        "clusterIP": result[0],
        "clusterIPs": result,
        "ipFamilies": families,
        "ipFamilyPolicy": service.spec.ip_family_policy or "SingleStack",
    }


def _asked(service: Service) -> list[str]:
    spec = service.spec
    return list(spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else []))


def _kept(old: Service | None) -> list[str]:
    return [text for text in (_asked(old) if old else []) if text != "None"]


def _check_cluster_ip(
    applied: Applied, text: str, cidr: IPNetwork, taken: Mapping[str, str]
) -> str:
    address = ip_address(text)
    if address not in cidr:
        message = f"{text} is not in kubeServiceCIDR {cidr}"
        raise applied.wrong("spec.clusterIP", message, "leave it out")
    if str(address) in taken:
        message = f"{text} is the address of {taken[str(address)]}"
        raise applied.wrong("spec.clusterIP", message, "leave it out")
    return str(address)


def _versions(applied: Applied, service: Service, asked: list[str], cidrs: Cidrs) -> list[int]:
    """The IP versions that the Service gets, according to its ipFamilies and ipFamilyPolicy."""
    available: list[int] = [cidr.version for cidr in cidrs]
    wanted: list[int]
    if asked == ["None"] or not asked:
        wanted = [VERSIONS[family] for family in service.spec.ip_families or ()]
    else:
        try:
            wanted = [ip_address(text).version for text in asked]
        except ValueError as error:
            raise applied.wrong(
                "spec.clusterIP", f"{error}; expected an address, None, or nothing"
            ) from error
    for version in wanted:
        if version not in available:
            ranges = ", ".join(map(str, cidrs))
            raise applied.wrong(
                "spec.ipFamilies", f"the box has no {FAMILIES[version]} services (only {ranges})"
            )
    policy = service.spec.ip_family_policy or "SingleStack"
    if policy == "RequireDualStack" and len(available) < 2:
        raise applied.wrong(
            "spec.ipFamilyPolicy",
            f"RequireDualStack, but the box has only {FAMILIES[available[0]]}",
        )
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


def _ports(
    applied: Applied, service: Service, old: Service | None, others: list[Service]
) -> list[Json]:
    kept = {(p.port, p.protocol): p.node_port for p in (old.spec.ports if old else None) or ()}
    taken = _taken(others)
    result: list[Json] = []
    for index, port in enumerate(service.spec.ports or ()):
        entry: Json = {"name": port.name} if port.name else {}
        entry |= {"port": port.port, "protocol": port.protocol}
        entry["targetPort"] = port.target_port or port.port
        number = port.node_port or kept.get((port.port, port.protocol), 0)
        number = _node_port(applied, service, index, number, taken)
        if number:
            taken[(number, port.protocol)] = f"port {port.port} of the same Service"
            entry["nodePort"] = number
        result.append(entry)
    return result


def _node_port(
    applied: Applied, service: Service, index: int, number: int, taken: Mapping[NodePort, str]
) -> int:
    """The node port of one port: `number` if it is allowed, a free one if `number` is 0, or 0 if the port has none."""
    spec, port = service.spec, (service.spec.ports or ())[index]
    field = f"spec.ports[{index}].nodePort"
    if spec.type == "ClusterIP":
        if port.node_port:
            message = "may not be set when type is ClusterIP"
            raise applied.wrong(field, message, "use type: NodePort")
        return 0
    if number and number not in NODE_PORTS:
        raise applied.wrong(field, f"{number} is not in 30000-32767")
    owner = taken.get((number, port.protocol))
    if owner:
        message = f"{number}/{port.protocol} is the node port of {owner}"
        raise applied.wrong(field, message, "choose another")
    if number or (spec.type == "LoadBalancer" and not spec.allocate_load_balancer_node_ports):
        return number
    return _free_node_port(applied, port.port, port.protocol, taken)


def _taken(others: Iterable[Service]) -> dict[NodePort, str]:
    """The node ports of other Services, including those for health checks."""
    taken = {}
    for other in others:
        for port in other.spec.ports or ():
            taken[port.node_port, port.protocol] = _full_name(other)
        taken[other.spec.health_check_node_port, "TCP"] = _full_name(other)
    return {port: name for port, name in taken.items() if port[0]}


def _health_check_port(
    applied: Applied, service: Service, old: Service | None, others: list[Service], spec: Json
) -> int:
    """The port on which load balancers ask a node for endpoints. `spec` already has the node ports."""
    taken = _taken(others)
    ports = spec["ports"]
    for port in ports if isinstance(ports, list) else ():
        taken[port.get("nodePort", 0), port["protocol"]] = "the same Service"
    number = service.spec.health_check_node_port or (old.spec.health_check_node_port if old else 0)
    if number and (number, "TCP") in taken:
        message = f"{number} is the node port of {taken[number, 'TCP']}"
        raise applied.wrong("spec.healthCheckNodePort", message, "choose another")
    return number or _free_node_port(applied, 0, "TCP", taken)


def _free_node_port(applied: Applied, port: int, protocol: str, taken: Collection[NodePort]) -> int:
    begin = _position(f"{applied.key}/{port}/{protocol}", len(NODE_PORTS))
    for step in range(len(NODE_PORTS)):
        number = NODE_PORTS[(begin + step) % len(NODE_PORTS)]
        if (number, protocol) not in taken:
            return number
    raise applied.wrong("spec.ports", "no node port is free")


def _position(text: str, size: int) -> int:
    """Where the search begins: the same name gives the same position, and names are spread over the range."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % size


def _full_name(service: Service) -> str:
    return f"Service {service.metadata.namespace}/{service.metadata.name}"
