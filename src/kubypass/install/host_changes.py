# SPDX-License-Identifier: Apache-2.0
"""Describes what an agent changes on its node; `kubypass cleanup` reverts all of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def host_changes(values: Mapping[str, Any]) -> list[str]:
    """One line for each change; agent/cleanup.py reverts them."""
    config, cni = values["config"], values["cni"]
    lines = [
        f"BPF programs on the uplinks, lo, pods' devices and the cgroup {values['cgroup']['hostRoot']}",
        "/sys/fs/bpf/kubypass: pinned programs, links and maps",
        "sysctls net.ipv4.ip_forward, net.ipv6.conf.all.forwarding, net.ipv4.ip_local_reserved_ports,",
        "  net.ipv4.conf.lo.accept_local and route_localnet",
        "/run/kubypass: what was changed, one record a pod, the agent's socket",
        f"ports 127.0.0.1:{values['healthPort']} (probes), 10256 (health), 127.0.0.1:10249 (metrics)",
    ]
    if config.get("auto-direct-node-routes") == "true":
        lines.append("routes to other nodes' pods (proto 75)")
    if cni["enabled"]:
        lines.append(
            f"{cni['binDir']}/kubypass-cni and {cni['confDir']}/05-kubypass.conflist, for new pods"
        )
    return lines
