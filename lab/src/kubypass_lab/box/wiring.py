# SPDX-License-Identifier: Apache-2.0
"""Makes the namespaces, links, addresses and routes of a box with iproute2, and removes them.

The fabric is the network between the machines: a bridge that joins the nodes' uplinks, and a routed link to the
client. It has routes to each node's pod CIDRs, and none to services.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from kubypass.errors import KubypassError
from kubypass_lab.box.kubekey import IPAddress, IPNetwork
from kubypass_lab.box.paths import CLIENT, FABRIC
from kubypass_lab.box.process import run, wait_until
from kubypass_lab.box.topology import CLIENT_ADDRESSES, CLIENT_GATEWAYS, PlannedNode, Topology

POD_GATEWAYS = {4: "169.254.1.1", 6: "fe80::1"}

# In every namespace, addresses are usable at once and router advertisements are ignored.
_INSTANT_V6 = (
    "net.ipv6.conf.all.accept_dad=0",
    "net.ipv6.conf.default.accept_dad=0",
    "net.ipv6.conf.default.dad_transmits=0",
    "net.ipv6.conf.all.accept_ra=0",
    "net.ipv6.conf.default.accept_ra=0",
)
_FORWARDING = (
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv4.conf.all.send_redirects=0",
    "net.ipv4.conf.default.send_redirects=0",
)
_NO_BRIDGE_FILTER = tuple(
    f"net.bridge.bridge-nf-call-{name}=0" for name in ("iptables", "ip6tables", "arptables")
)


class Namespaces(Protocol):
    """Anything that names the network namespaces of a box."""

    def namespace(self, host: str) -> str:
        """The namespace of a node, of the fabric or of the client."""


def ip_batch(namespace: str, lines: Iterable[str]) -> None:
    """Run `ip` commands in a namespace, one for each line. The first failure ends the batch."""
    run(["ip", "-n", namespace, "-batch", "-"], stdin="\n".join(lines) + "\n")


def set_sysctls(namespace: str, settings: Iterable[str], *, optional: bool = False) -> None:
    """Set `name=value` in a namespace. With `optional`, names that this kernel does not have are skipped."""
    ignore = ["-e"] if optional else []
    run(["nsenter", f"--net=/run/netns/{namespace}", "sysctl", "-q", *ignore, "-w", *settings])


def add_namespace(namespace: str) -> None:
    """Add a network namespace, and set its loopback device up."""
    run(["ip", "netns", "add", namespace])
    set_sysctls(namespace, _INSTANT_V6, optional=True)
    ip_batch(namespace, ["link set lo up"])


def delete_namespace(namespace: str) -> None:
    """Delete a network namespace with its links.

    It is tried again for a while, because the last command of a killed `up` may still use the namespace.
    """
    failed = KubypassError(f"{namespace} is still there")

    def is_gone() -> bool:
        nonlocal failed
        try:
            run(["ip", "netns", "delete", namespace])
        except KubypassError as error:
            failed = error
        return not Path(f"/run/netns/{namespace}").exists()

    if not wait_until(is_gone):
        raise failed


def make_fabric(paths: Namespaces, topology: Topology) -> None:
    """Make the fabric and the client, and connect them."""
    fabric, client = paths.namespace(FABRIC), paths.namespace(CLIENT)
    add_namespace(fabric)
    add_namespace(client)
    set_sysctls(fabric, _FORWARDING, optional=True)
    ip_batch(
        fabric,
        [
            "link add nodes type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            *(_add_address(address, "nodes") for address in map(str, topology.gateways)),
            "link set nodes up",
            f"link add client type veth peer name eth0 netns {client}",
            *(_add_address(address, "client") for address in CLIENT_GATEWAYS),
            "link set client up",
        ],
    )
    set_sysctls(fabric, _NO_BRIDGE_FILTER, optional=True)
    gateways = [str(ipaddress.ip_interface(each).ip) for each in CLIENT_GATEWAYS]
    ip_batch(
        client,
        [
            *(_add_address(address, "eth0") for address in CLIENT_ADDRESSES),
            "link set eth0 up",
            *(f"route add default via {gateway}" for gateway in gateways),
        ],
    )


def make_node(paths: Namespaces, topology: Topology, node: PlannedNode) -> None:
    """Make a node's namespace, connect it to the fabric, and route its pod CIDRs to it."""
    plug_node(paths, topology, node)
    route_pods(paths.namespace(FABRIC), node, node.pod_cidrs)


def plug_node(paths: Namespaces, topology: Topology, node: PlannedNode) -> None:
    """Make a node's namespace, and connect its uplink to the fabric."""
    namespace = paths.namespace(node.name)
    add_namespace(namespace)
    ip_batch(
        paths.namespace(FABRIC),
        [
            f"link add {node.alias} type veth peer name eth0 netns {namespace}",
            f"link set {node.alias} master nodes up",
        ],
    )
    ip_batch(
        namespace,
        [
            *(_add_address(str(address), "eth0") for address in node.addresses),
            "link set eth0 up",
            *(f"route add default via {gateway.ip}" for gateway in topology.gateways),
        ],
    )


def route_pods(namespace: str, node: PlannedNode, cidrs: Iterable[IPNetwork]) -> None:
    """In `namespace`, route `cidrs` to `node`."""
    lines = [f"route replace {cidr} via {node.address(cidr.version)}" for cidr in cidrs]
    ip_batch(namespace, lines)


def pod_interface(pod: str) -> str:
    """The name of the node's end of a pod's link. `pod` is unique among all pods ever made."""
    return "lxc" + hashlib.sha256(pod.encode()).hexdigest()[:11]


def make_pod_link(
    node_namespace: str,
    node: PlannedNode,
    pod_namespace: str,
    interface: str,
    addresses: list[IPAddress],
) -> str:
    """Connect a pod to its node by a veth pair and host routes. Returns the MAC address of the pod's end.

    Neighbour entries are permanent on both sides, so neither resolves the other's address.
    """
    ip_batch(
        node_namespace,
        [
            f"link add {interface} type veth peer name eth0 netns {pod_namespace}",
            f"link set {interface} up",
        ],
    )
    node_mac = read_mac(node_namespace, interface)
    pod_mac = read_mac(pod_namespace, "eth0")
    pod_lines, node_lines = ["link set eth0 up"], []
    for address in addresses:
        gateway, bits = POD_GATEWAYS[address.version], address.max_prefixlen
        pod_lines += [
            _add_address(f"{address}/{bits}", "eth0"),
            f"neighbour replace {gateway} lladdr {node_mac} dev eth0 nud permanent",
            f"route add {gateway}/{bits} dev eth0 scope link",
            f"route add default via {gateway} dev eth0 src {address}",
        ]
        source = node.address(address.version)
        node_lines += [
            f"neighbour replace {address} lladdr {pod_mac} dev {interface} nud permanent",
            f"route replace {address}/{bits} dev {interface} src {source}",
        ]
    ip_batch(pod_namespace, pod_lines)
    ip_batch(node_namespace, node_lines)
    return pod_mac


def delete_link(namespace: str, interface: str) -> None:
    """Delete a link. Its peer and the routes over it are deleted with it."""
    ip_batch(namespace, [f"link delete {interface}"])


def read_mac(namespace: str, interface: str) -> str:
    """MAC address of an interface."""
    words = run(["ip", "-n", namespace, "-o", "link", "show", "dev", interface]).split()
    return words[words.index("link/ether") + 1]


def _add_address(address: str, interface: str) -> str:
    """The `ip` line that adds an address. An IPv6 address is usable at once (nodad)."""
    return f"address add {address} dev {interface}{' nodad' if ':' in address else ''}"
