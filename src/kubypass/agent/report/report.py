# SPDX-License-Identifier: Apache-2.0
"""What the agent tells: status, services, counters. Called by the API's threads: maps are opened anew each time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from kubypass.agent.agent import Agent
from kubypass.agent.prepare import map_sizes
from kubypass.agent.report.counts import gauge_metrics, packet_metrics
from kubypass.agent.report.details import opened, replacement_details
from kubypass.agent.report.kubernetes import kubernetes_metrics, kubernetes_status
from kubypass.agent.report.snat import snat_metrics, snat_problems, snat_status
from kubypass.agent.report.sockets import (
    bind_protection,
    feature,
    socket_lb,
    socket_metrics,
    socket_termination,
)
from kubypass.api.metric import Metric
from kubypass.datapath import layout
from kubypass.datapath.counters import Count, read_counts
from kubypass.datapath.pins import Pins
from kubypass.datapath.service_list import pinned_services
from kubypass.datapath.snat_failures import SnatFailure, read_snat_failures
from kubypass.errors import KernelError
from kubypass.kernel import libbpf
from kubypass.kernel.bpf import Map
from kubypass.model.address import Address, format_address
from kubypass.model.pod import Pod, with_traits
from kubypass.model.problem import Problem
from kubypass.model.verdict import BackendList, Verdict
from kubypass.node.pod_records import read_pods
from kubypass.plan.snat import plan_snat_ports
from kubypass.plan.socket_lb import is_excluded

VERSION = "0.1.0"
_NOT_YET = "not part of this version"


def _name(pod: Pod) -> str:
    return f"{pod.namespace}/{pod.name}"


def _texts(addresses: Iterable[Address]) -> list[str]:
    return [format_address(address) for address in addresses]


class Report:
    """A read-only view of the agent (kubypass.api.view.View)."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    def started(self) -> bool:
        """Whether the first sync is complete."""
        return self._agent.healthy

    def services(self) -> list[dict[str, object]]:
        """Rows of `kubypass service list`."""
        return pinned_services(self._agent.options.bpffs) if self._agent.healthy else []

    def _pinned(self, name: str) -> Map:
        return Pins(self._agent.options.bpffs).open_map(name)

    def _counts(self) -> list[Count]:
        try:
            return read_counts(self._pinned("metrics"))
        except KernelError:
            return []

    def _snat_failures(self) -> list[SnatFailure]:
        try:
            return read_snat_failures(self._pinned("snat_failures"))
        except KernelError:
            return []

    def _problems(self) -> list[Problem]:
        lately = snat_problems(self._snat_failures(), time.monotonic_ns())
        return [*self._agent.problems(), *lately]

    def _snat(self) -> dict[str, object]:
        agent = self._agent
        ports, _ = plan_snat_ports(agent.settings, agent.node.ephemeral)
        return snat_status(ports, self._snat_failures())

    def metrics(self) -> list[Metric]:
        """Every metric: packets, gauges, SNAT, kube-proxy's, sockets, the API."""
        return [
            *packet_metrics(self._counts()),
            *gauge_metrics(self._gauges()),
            *snat_metrics(self._snat_failures()),
            *self._agent.proxy_metrics(),
            *socket_metrics(self._agent),
            *kubernetes_metrics(self._agent.source),
        ]

    def _gauges(self) -> dict[str, int]:
        agent = self._agent
        if not agent.healthy:
            return {}
        services, frontends, backends = agent.services.count
        live, removed = agent.flows
        return {
            "services": services,
            "frontends": frontends,
            "backends": backends,
            "pods": agent.network.pods,
            "problems": len(self._problems()),
            "flows": live,
            "flows_expired": removed,
        }

    def names(self) -> dict[str, object]:
        """Who has which addresses: nodes, services, and this node's pods."""
        agent = self._agent
        records = read_pods(agent.options.run / "pods")[0]
        pods = with_traits(records, agent.snapshot.traits)
        return {
            "node": agent.options.node,
            **agent.snapshot.names(),
            "pods": {_name(pod): _texts(pod.addresses) for pod in pods},
            "packet_pods": [_name(pod) for pod in pods if is_excluded(pod, agent.settings)],
        }

    def explain(self, number: int, chosen: int) -> dict[str, object] | None:
        """Endpoints of a service, by its identifier: which are in a list (BackendList), and why."""
        if not self._agent.healthy:
            return None
        found = self._agent.services.explain(number, BackendList(chosen))
        return asdict(found) if found else None

    def status(self) -> dict[str, object]:
        """The shape of /status; lists are empty until the first complete sync."""
        agent = self._agent
        ready = agent.healthy
        services, frontends, backends = agent.services.count if ready else (0, 0, 0)
        attached = agent.attachments.writes if ready else 0
        return {
            **self._features(),
            "attach_mode": "TCX" if agent.features.tcx else "Legacy TC",
            "bpf_maps": [
                {"name": n, "max_entries": size} for n, size in map_sizes(agent.settings).items()
            ],
            "problems": [asdict(problem) for problem in self._problems()] if ready else [],
            "drops": self._drops(),
            "snat": self._snat(),
            "writes": {**agent.writes, "links": attached},
            "timings": dict(agent.timings),
            "memory": _memory(),
            "layout": layout.LAYOUT_HASH,
            "agent": {
                "pid": os.getpid(),
                "started": self._started,
                "version": VERSION,
                "node": agent.options.node,
                "healthy": ready,
            },
            "features": {**asdict(agent.features), "libbpf": libbpf.version()},
            "services": services,
            "frontends": frontends,
            "backends": backends,
            "pods": agent.network.pods if ready else 0,
            "ipam": agent.pod_network.pools,
            "details": replacement_details(agent.settings),
            "notes": [
                *opened(agent.settings),
                *(str(found) for found in agent.findings if found.level != "accepted"),
                *self._pending(),
            ],
            "kubernetes": kubernetes_status(agent.source, ready=ready),
            "upgrade": agent.datapath.notes if ready else [],
        }

    def _pending(self) -> list[str]:
        """What the cluster's settings say and is not in use."""
        configuration = self._agent.following.configuration
        return configuration.notes if configuration else []

    def _drops(self) -> list[dict[str, object]]:
        return [
            {
                "hook": count.hook.name.lower(),
                "reason": count.verdict.name.removeprefix("DROP_").lower(),
                "packets": count.packets,
                "bytes": count.bytes,
            }
            for count in self._counts()
            if count.verdict > Verdict.DROP
        ]

    def _features(self) -> dict[str, object]:
        settings, node = self._agent.settings, self._agent.node
        word = settings.services.kube_proxy_replacement
        replaced = {"true": "True", "false": "False"}.get(word, word.capitalize())
        addresses = " ".join(format_address(a) for a in node.primary.values())
        devices = [f"{link.name} {addresses} (Direct Routing)" for link in node.uplinks]
        return {
            "kube_proxy_replacement": {**feature(replaced, replaced), "devices": devices},
            "socket_lb": socket_lb(self._agent),
            "socket_termination": socket_termination(self._agent),
            "bind_protection": bind_protection(self._agent),
            "routing": feature("Network: Native   Host: BPF", "Network: Native   Host: BPF"),
            "masquerading": self._masquerading(),
            "host_routing": feature("BPF", "BPF"),
            "bandwidth_manager": feature("Disabled", "Disabled"),
            "ipv4_big_tcp": feature("Disabled", "Disabled"),
            "ipv6_big_tcp": feature("Disabled", "Disabled"),
            "xdp_acceleration": feature("Disabled", "Disabled"),
            "hubble": feature("Disabled", "Disabled"),
        }

    def _masquerading(self) -> dict[str, object]:
        settings = self._agent.settings
        wanted = settings.masquerade.ipv4 or settings.masquerade.ipv6
        how = "BPF" if settings.masquerade.in_bpf else "IPTables"
        why = f"{_NOT_YET}: pods reach the outside with their own addresses"
        return feature(how if wanted else "Disabled", "Disabled", why)


def _memory() -> dict[str, int]:
    """Resident memory of this process in kB, now and at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {name: int(found[name].split()[0]) for name in ("VmRSS", "VmHWM")}
