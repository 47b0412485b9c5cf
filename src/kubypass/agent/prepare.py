# SPDX-License-Identifier: Apache-2.0
"""Before anything is loaded: is this host ready, and what do the settings mean for programs and maps?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kubypass.agent.options import Options
from kubypass.datapath import layout
from kubypass.datapath.attach import BALANCE_HOOKS, BIND_HOOKS
from kubypass.errors import ConfigError, KernelError
from kubypass.kernel import cgroup, mounts, netns
from kubypass.kernel.features import Features
from kubypass.model.address import LOOPBACK, Address, family_bit
from kubypass.model.cidr import Cidr, mask
from kubypass.model.constants import FAMILY_IPV4, FAMILY_IPV6
from kubypass.model.verdict import LocalDetector
from kubypass.plan.snat import LINUX_EPHEMERAL, plan_snat_ports
from kubypass.settings.settings import Settings

DEFAULT_BPFFS = Path("/sys/fs/bpf")
NETWORKS_MAX = 4
"""As in bpf/kubypass.h; the setting's reader refuses more."""
_NO_ADDRESS = bytes(16)


def check_host(options: Options) -> tuple[Path, bool]:
    """The cgroup to attach to, and whether we mounted the bpf filesystem; ConfigError says what is missing."""
    if os.geteuid() != 0:
        raise ConfigError("the agent needs root: it loads BPF programs", hint="run it with sudo")
    where = options.cgroup or _cgroup_mount()
    if not cgroup.is_cgroup(where):
        raise ConfigError(
            f"--cgroup {where}: not a directory of cgroup v2", hint="give one, or mount cgroup2"
        )
    if mounts.is_bpffs(options.bpffs):
        return where, False
    if options.bpffs != DEFAULT_BPFFS or not options.bpffs.is_dir():
        hint = f"mount -t bpf bpf {options.bpffs}"
        raise ConfigError(f"--bpffs {options.bpffs}: not on a bpf filesystem", hint=hint)
    mounts.mount_bpffs(options.bpffs)
    return where, True


def _cgroup_mount() -> Path:
    try:
        return cgroup.mount_point()
    except KernelError as error:
        raise ConfigError("cgroup v2 is not mounted", hint=error.hint) from None


def datapath_config(
    settings: Settings,
    features: Features,
    primary: Mapping[int, Address],
    pod_cidrs: Sequence[Cidr],
    ephemeral: tuple[int, int] = LINUX_EPHEMERAL,
) -> layout.Config:
    """The constants of the programs.

    `primary` are the node's addresses by family, `pod_cidrs` those of its Node object, `ephemeral` the first and the
    last of the ports that its sockets get by themselves.
    """
    detector, networks, families = _detector(settings, pod_cidrs)
    snat, _ = plan_snat_ports(settings, ephemeral)
    (snat_first, snat_ports), (extra_first, extra_ports) = (
        (first, last - first + 1) for first, last in (snat.main, snat.extra or (0, -1))
    )
    return layout.Config(
        node_ipv4=primary.get(4, _NO_ADDRESS),
        node_ipv6=primary.get(6, _NO_ADDRESS),
        node_netns_cookie=netns.netns_cookie(),
        tcp_timeout_ns=settings.conntrack.tcp_timeout_ns,
        tcp_syn_timeout_ns=settings.conntrack.tcp_syn_timeout_ns,
        tcp_fin_timeout_ns=settings.conntrack.tcp_fin_timeout_ns,
        any_timeout_ns=settings.conntrack.any_timeout_ns,
        snat_port_first=snat_first,
        snat_ports=snat_ports,
        snat_extra_first=extra_first,
        snat_extra_ports=extra_ports,
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
        pod_networks=pack_networks(networks),
        service_networks=pack_networks(settings.services.cidrs),
    )


def _detector(
    settings: Settings, pod_cidrs: Sequence[Cidr]
) -> tuple[LocalDetector, Sequence[Cidr], int]:
    """How pods are told from others, by which networks, and in which families (bits of FAMILY_IPV4 and FAMILY_IPV6).

    A mode tells nothing in a family that it has no network of, as with kube-proxy.
    """
    if settings.pods.detect_local_mode == "InterfaceNamePrefix":
        return LocalDetector.INTERFACE, (), FAMILY_IPV4 | FAMILY_IPV6
    by_mode = {"ClusterCIDR": settings.pods.local_networks(), "NodeCIDR": pod_cidrs[:NETWORKS_MAX]}
    networks = by_mode.get(settings.pods.detect_local_mode, ())
    families = sum({family_bit(cidr.family) for cidr in networks})
    return (LocalDetector.NETWORK if networks else LocalDetector.NONE), networks, families


def localhost_node_ports(settings: Settings) -> int:
    """The families (FAMILY_IPV4, FAMILY_IPV6) whose NodePorts answer on a loopback address."""
    return sum(
        family_bit(version)
        for version, address in LOOPBACK.items()
        if settings.node_ports.answer_on(address, ())
    )


def pack_networks(networks: Iterable[Cidr]) -> bytes:
    """As an array of struct network, with room for NETWORKS_MAX."""
    ones = Address(b"\xff" * 16)
    packed = [layout.Network(cidr.network, mask(ones, cidr.bits)).pack() for cidr in networks]
    return b"".join(packed).ljust(NETWORKS_MAX * layout.NETWORK_SIZE, b"\0")


def cgroup_hooks(settings: Settings) -> tuple[str, ...]:
    """Where socket calls are seen; the node's own dial external addresses even without socket load balancing."""
    balanced = settings.services.with_external or settings.socket_lb
    protected = settings.services.with_node_ports and settings.node_ports.bind_protection
    return (BALANCE_HOOKS if balanced else ()) + (BIND_HOOKS if protected else ())


def map_sizes(settings: Settings) -> dict[str, int]:
    """Entries of each map that a setting sizes."""
    return {
        "services": settings.maps.services,
        "backends": settings.maps.backends,
        "slots": 2 * settings.maps.backends,
        "flows": settings.maps.flows,
        "fragments": settings.maps.fragments,
        "socket_peers": settings.maps.socket_peers,
    }
