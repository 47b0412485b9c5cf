# SPDX-License-Identifier: Apache-2.0
"""The network's routes to external addresses of Services: externalIPs and load balancers' addresses lead to node1.

An address that the network already has (of a node, a pod, a service or the client) gets no route.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable

from kubypass.model.address import format_address, parse_address
from kubypass_lab.box import wiring
from kubypass_lab.box.box import Box
from kubypass_lab.box.kubekey import IPAddress
from kubypass_lab.box.objects import Service
from kubypass_lab.box.paths import FABRIC
from kubypass_lab.box.process import run
from kubypass_lab.box.topology import CLIENT_ADDRESSES, Topology

_PROTOCOL = "201"  # marks the box's routes; the kernel and routing daemons use lower numbers


def plan_routes(services: Iterable[Service], topology: Topology) -> dict[str, str]:
    """Maps each destination to its gateway, an address of node1."""
    taken = {each.ip for node in topology.nodes for each in node.addresses}
    taken |= {each.ip for each in topology.gateways}
    cidrs = [*topology.pod_cidrs, *topology.service_cidrs]
    cidrs += [ipaddress.ip_interface(text).network for text in CLIENT_ADDRESSES]
    routes = {}
    for service in services:
        for text in service.external_addresses():
            address: IPAddress = ipaddress.ip_address(format_address(parse_address(text)))
            gateway = topology.nodes[0].address(address.version)
            inside = any(address in cidr for cidr in cidrs)
            special = address.is_unspecified or address.is_loopback or address.is_multicast
            if gateway is not None and address not in taken and not inside and not special:
                routes[str(address)] = str(gateway)
    return routes


def sync_routes(box: Box, services: Iterable[Service]) -> None:
    """Add the missing routes and delete stale ones."""
    namespace = box.paths.namespace(FABRIC)
    wanted = plan_routes(services, box.topology)
    lines = []
    present: set[str] = set()
    for version in ("-4", "-6"):
        text = run(["ip", "-n", namespace, version, "-j", "route", "show", "proto", _PROTOCOL])
        present |= {str(entry["dst"]) for entry in json.loads(text or "[]")}
    lines += [f"route delete {each} proto {_PROTOCOL}" for each in sorted(present - set(wanted))]
    lines += [
        f"route replace {address} via {gateway} proto {_PROTOCOL}"
        for address, gateway in wanted.items()
        if address not in present
    ]
    if lines:
        wiring.ip_batch(namespace, lines)
