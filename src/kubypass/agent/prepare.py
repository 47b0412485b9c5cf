# SPDX-License-Identifier: Apache-2.0
"""Before anything is loaded: is this host ready, and what do the settings mean for programs and maps?"""

from __future__ import annotations

import os
from pathlib import Path

from kubypass.agent.node import Features, NodeState
from kubypass.agent.options import Options
from kubypass.datapath import layout
from kubypass.errors import ConfigError, KernelError
from kubypass.kernel import cgroup, mounts, netns
from kubypass.model.settings import Settings

DEFAULT_BPFFS = Path("/sys/fs/bpf")
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


def datapath_config(settings: Settings, features: Features, node: NodeState) -> layout.Config:
    """The constants of the programs."""
    return layout.Config(
        node_ipv4=node.primary.get(4, _NO_ADDRESS),
        node_ipv6=node.primary.get(6, _NO_ADDRESS),
        node_netns_cookie=netns.netns_cookie(),
        tcp_timeout_ns=settings.bpf_ct_timeout_regular_tcp,
        tcp_syn_timeout_ns=settings.bpf_ct_timeout_regular_tcp_syn,
        tcp_fin_timeout_ns=settings.bpf_ct_timeout_regular_tcp_fin,
        any_timeout_ns=settings.bpf_ct_timeout_regular_any,
        socket_lb_pods=int(settings.socket_lb_pods),
        external_cluster_ip=int(settings.bpf_lb_external_clusterip),
        socket_lb_refuse=int(features.refuse_connect),
        coarse_clock=int(features.coarse_clock),
    )


def map_sizes(settings: Settings) -> dict[str, int]:
    """Entries of each map that a setting sizes."""
    return {
        "services": settings.bpf_lb_service_map_max,
        "backends": settings.bpf_lb_service_backend_map_max,
        "slots": 2 * settings.bpf_lb_service_backend_map_max,
        "flows": settings.bpf_ct_global_tcp_max,
        "socket_peers": settings.bpf_sock_rev_map_max,
    }
