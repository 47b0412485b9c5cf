# SPDX-License-Identifier: Apache-2.0
"""What the settings mean for the programs: `struct config` of bpf/kubypass.h, and the hooks to attach."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

from kubypass.datapath import layout
from kubypass.datapath.attach import BALANCE_HOOKS, BIND_HOOKS
from kubypass.datapath.sizes import PASSAGES
from kubypass.kernel import netns, sysctl
from kubypass.kernel.bpf import possible_cpus
from kubypass.kernel.features import Features
from kubypass.model.address import LOOPBACK, Address, family_bit
from kubypass.model.cidr import Cidr, mask
from kubypass.model.constants import FAMILY_IPV4, FAMILY_IPV6, NETWORKS_MAX
from kubypass.model.port_range import LINUX_EPHEMERAL
from kubypass.model.verdict import LocalDetector
from kubypass.plan.masquerade import cluster_networks, masquerade_families
from kubypass.plan.snat import plan_snat_ports
from kubypass.settings.settings import Settings


def datapath_config(
    settings: Settings,
    features: Features,
    pod_cidrs: Sequence[Cidr],
    ephemeral: tuple[int, int] = LINUX_EPHEMERAL,
) -> layout.Config:
    """The constants of the programs.

    `pod_cidrs` are those of its Node object. `ephemeral` has the first and last port that the kernel gives to sockets.
    """
    detector, networks, families = _detector(settings, pod_cidrs)
    inside = cluster_networks(settings)[:NETWORKS_MAX]
    (snat_first, snat_ports), (extra_first, extra_ports) = _snat_ports(settings, ephemeral)
    return layout.Config(
        node_netns_cookie=netns.netns_cookie(),
        tcp_timeout_ns=settings.conntrack.tcp_timeout_ns,
        tcp_syn_timeout_ns=settings.conntrack.tcp_syn_timeout_ns,
        tcp_fin_timeout_ns=settings.conntrack.tcp_fin_timeout_ns,
        any_timeout_ns=settings.conntrack.any_timeout_ns,
        seed=_seed(),
        maglev_seed=maglev_seed(settings.balancing.maglev_seed),
        snat_port_first=snat_first,
        snat_ports=snat_ports,
        snat_extra_first=extra_first,
        snat_extra_ports=extra_ports,
        passages_a_cpu=passages_a_cpu(settings),
        socket_lb_pods=int(settings.socket_lb_pods),
        external_cluster_ip=int(settings.services.external_cluster_ip),
        socket_lb_refuse=int(features.refuse_connect),
        coarse_clock=int(features.coarse_clock),
        local_detector=detector,
        masquerade_all=int(settings.masquerade.cluster_ip_clients),
        localhost_node_ports=localhost_node_ports(settings),
        reject=int(settings.services.no_backend_response == "reject"),
        answer_ping=int(settings.services.answer_ping),
        pod_network_count=len(networks),
        service_network_count=len(settings.services.cidrs),
        tracing=0,
        route_source=int(features.route_source),
        pod_families=families,
        verify_sources=int(settings.pods.verify_sources),
        masquerade=masquerade_families(settings),
        dsr=int(settings.dsr.wanted),
        inside_network_count=len(inside),
        frags=int(features.xdp_frags),
        tunnel=int(settings.dsr.tunnels),
        pod_networks=pack_networks(networks),
        service_networks=pack_networks(settings.services.cidrs),
        inside_networks=pack_networks(inside),
    )


def passages_a_cpu(settings: Settings) -> int:
    """How many of the packets that the node's stack forwards each CPU may have there; 0 where programs forward."""
    return PASSAGES // possible_cpus() if settings.routing.legacy_host else 0


def _snat_ports(settings: Settings, ephemeral: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The first port and the number of ports of the main range and of the extra one."""
    snat, _ = plan_snat_ports(settings, ephemeral)
    for first, last in (snat.main, snat.extra or (0, -1)):
        yield first, last - first + 1


def _seed() -> int:
    """The seed of the choice of backends: the same until the node boots again, and unknown to clients outside."""
    boot = sysctl.read("kernel.random.boot_id") or ""
    return int.from_bytes(hashlib.sha256(f"kubypass {boot}".encode()).digest()[:8], "little")


def maglev_seed(seed: bytes) -> int:
    """The seed of the choice of cells in Maglev tables: the same on every node that has the same setting."""
    return int.from_bytes(hashlib.sha256(b"kubypass maglev" + seed).digest()[:8], "little")


def _detector(
    settings: Settings, pod_cidrs: Sequence[Cidr]
) -> tuple[LocalDetector, Sequence[Cidr], int]:
    """How pods are told from clients outside, by which networks, and in which families (family bits).

    A mode tells nothing in a family in which it has no network, as with kube-proxy.
    """
    if settings.pods.detect_local_mode == "InterfaceNamePrefix":
        return LocalDetector.INTERFACE, (), FAMILY_IPV4 | FAMILY_IPV6
    by_mode = {"ClusterCIDR": settings.pods.local_networks(), "NodeCIDR": pod_cidrs[:NETWORKS_MAX]}
    networks = by_mode.get(settings.pods.detect_local_mode, ())
    families = sum({family_bit(cidr.family) for cidr in networks})
    return (LocalDetector.NETWORK if networks else LocalDetector.NONE), networks, families


def localhost_node_ports(settings: Settings) -> int:
    """The families whose NodePorts answer on loopback addresses, as family bits."""
    return sum(
        family_bit(version)
        for version, address in LOOPBACK.items()
        if settings.node_ports.answer_on(address, ())
    )


def pack_networks(networks: Iterable[Cidr]) -> bytes:
    """An array of NETWORKS_MAX struct network; unused ones are zero."""
    ones = Address(b"\xff" * 16)
    packed = [layout.Network(cidr.network, mask(ones, cidr.bits)).pack() for cidr in networks]
    return b"".join(packed).ljust(NETWORKS_MAX * layout.NETWORK_SIZE, b"\0")


def cgroup_hooks(settings: Settings) -> tuple[str, ...]:
    """The cgroup hooks to attach.

    Without socket load balancing the node's own processes still need the hooks to connect to external addresses.
    """
    balanced = settings.services.with_external or settings.socket_lb
    protected = settings.services.with_node_ports and settings.node_ports.bind_protection
    return (BALANCE_HOOKS if balanced else ()) + (BIND_HOOKS if protected else ())
