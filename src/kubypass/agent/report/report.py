# SPDX-License-Identifier: Apache-2.0
"""What the agent reports: status, services, metrics. The API's threads call it, and each call opens the maps again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import cast

from kubypass.agent.agent import Agent
from kubypass.agent.report.counts import (
    gauge_metrics,
    packet_metrics,
    process_metrics,
    socket_metrics,
)
from kubypass.agent.report.dsr import dsr_metrics
from kubypass.agent.report.figures import Figures
from kubypass.agent.report.map_fill import fill_metrics
from kubypass.agent.report.notes import open_to_outside
from kubypass.agent.report.option import Inputs
from kubypass.agent.report.option_table import option_rows
from kubypass.agent.report.pods import pod_rows
from kubypass.agent.report.problem_groups import group_problems
from kubypass.agent.report.snat import snat_metrics, snat_problems, snat_status
from kubypass.agent.running import Running
from kubypass.api.metric import Metric
from kubypass.datapath import layout
from kubypass.datapath.counters import Count, drop_rows, read_counts
from kubypass.datapath.pins import Pins
from kubypass.datapath.service_list import pinned_services
from kubypass.datapath.sizes import map_sizes
from kubypass.datapath.snat_failures import SnatFailure, read_snat_failures
from kubypass.errors import KernelError
from kubypass.kernel import libbpf
from kubypass.kernel.bpf import Map
from kubypass.kernel.features import kernel_status
from kubypass.kernel.netlink import Netlink
from kubypass.model.address import Address, format_address
from kubypass.model.host_port import is_pod
from kubypass.model.pod import Pod, with_metadata
from kubypass.model.problem import Problem
from kubypass.model.verdict import BackendList
from kubypass.node.pod_records import read_pods
from kubypass.plan.items import ItemKey
from kubypass.plan.snat import more_ports_advice, plan_snat_ports
from kubypass.plan.socket_lb import is_excluded
from kubypass.version import VERSION


def _name(pod: Pod) -> str:
    return f"{pod.namespace}/{pod.name}"


def _texts(addresses: Iterable[Address]) -> list[str]:
    return [format_address(address) for address in addresses]


class Report:
    """A read-only view of the agent (kubypass.api.view.View)."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._pins = Pins(agent.options.bpffs)
        self._began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.running: Running | None = None
        """The agent after its first sync; None until then."""

    def started(self) -> bool:
        """Whether the first sync is complete."""
        return self.running is not None

    def _figures(self) -> Figures:
        return self.running.figures() if self.running else Figures()

    def services(self) -> list[dict[str, object]]:
        """Rows of `kubypass service list`."""
        if self.running is None:
            return []
        names = self.running.services.names()
        rows = pinned_services(self._agent.options.bpffs)
        return [{**row, **_owner(names.get(cast("int", row["id"])))} for row in rows]

    def explain(self, number: int, chosen: int) -> dict[str, object] | None:
        """Why each endpoint of the service with this identifier is in a list (BackendList), or is not."""
        found = self.running and self.running.services.explain(number, BackendList(chosen))
        return asdict(found) if found else None

    def _pods(self) -> list[Pod]:
        """The pods of this node, as their records and the API describe them."""
        records = read_pods(self._agent.options.run / "pods")[0]
        return with_metadata(records, self._agent.snapshot.pod_metadata)

    def pods(self) -> list[dict[str, object]]:
        """Rows of `kubypass pod list`."""
        if self.running is None:
            return []
        with Netlink() as netlink:
            links = netlink.links()
        return pod_rows(self._pods(), links, self.running.programs.network, self._agent.settings)

    def names(self) -> dict[str, object]:
        """Addresses by name: nodes, services, and this node's pods."""
        agent, pods = self._agent, self._pods()
        return {
            "node": agent.options.node,
            **agent.snapshot.names(),
            "pods": {_name(pod): _texts(pod.addresses) for pod in pods},
            "packet_pods": [_name(pod) for pod in pods if is_excluded(pod, agent.settings)],
        }

    def metrics(self) -> list[Metric]:
        """Every metric: packets, gauges, SNAT, kube-proxy's, sockets, the API."""
        agent, figures, failures = self._agent, self._figures(), self._snat_failures()
        without_local = self.running.services_without_local() if self.running else {}
        return [
            *packet_metrics(self._counts()),
            *gauge_metrics(figures, len(self._problems(figures, failures))),
            *snat_metrics(failures),
            *dsr_metrics(figures.dsr.refused),
            *agent.sync_metrics.metrics(agent.ports.answers, without_local),
            *socket_metrics(figures),
            *fill_metrics(figures.fills),
            *process_metrics(agent.ports.ended, agent.faults.count, figures.repairs),
            *agent.source.metrics(),
        ]

    def status(self) -> dict[str, object]:
        """The object of /status. Its lists are empty until the first sync is complete."""
        agent, figures, failures = self._agent, self._figures(), self._snat_failures()
        rows = option_rows(Inputs(agent.settings, agent.features, agent.node, figures))
        sizes = map_sizes(agent.settings)
        ports, _ = plan_snat_ports(agent.settings, agent.node.ephemeral)
        problems = self._problems(figures, failures)
        return {
            "options": [row for _, row in rows],
            **{option.field: row for option, row in rows if option.field},
            "attach_mode": "TCX" if agent.features.tcx else "Legacy TC",
            "bpf_maps": [one.row() for one in figures.fills]
            or [{"name": name, "max_entries": size} for name, size in sizes.items()],
            "problems": [asdict(problem) for problem in problems],
            "problem_groups": [group.row() for group in group_problems(problems).values()],
            "drops": drop_rows(self._counts()),
            "snat": snat_status(ports, failures),
            "writes": {**agent.writes, "links": figures.links_written},
            "timings": dict(agent.timings),
            "memory": _memory(),
            "layout": layout.LAYOUT_HASH,
            "agent": {
                "pid": os.getpid(),
                "started": self._began,
                "version": VERSION,
                "node": agent.options.node,
                "healthy": figures.started and agent.health.is_healthy(),
                "unhealthy": agent.health.reasons(),
            },
            "features": {**asdict(agent.features), "libbpf": libbpf.version()},
            "kernel": kernel_status(),
            "services": figures.services,
            "frontends": figures.frontends,
            "backends": figures.backends,
            "pods": figures.pods,
            "ipam": list(figures.pools),
            "details": {option.title: row["effective"] for option, row in rows if option.verbose},
            "notes": self._notes(),
            "kubernetes": agent.source.status(started=figures.started),
            "upgrade": list(figures.upgrade),
        }

    def _notes(self) -> list[str]:
        agent = self._agent
        config_map = agent.follower.config_map
        return [
            *open_to_outside(agent.settings),
            *agent.node.notes,
            *([agent.bypassed] if agent.bypassed else ()),
            *(str(found) for found in agent.findings if found.level != "accepted"),
            *(config_map.notes if config_map else ()),
        ]

    def _problems(self, figures: Figures, failures: list[SnatFailure]) -> list[Problem]:
        if not figures.started:
            return []
        agent = self._agent
        advice = more_ports_advice(agent.settings, agent.node.ephemeral)
        snat = snat_problems(failures, time.monotonic_ns(), advice)
        return [*agent.health.hung(), *figures.problems, *snat]

    def _pinned(self, name: str) -> Map:
        return self._pins.open_map(name)

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


def _owner(key: ItemKey | None) -> dict[str, str]:
    """Whose frontend a row of `service list` is; nobody's while the service goes away."""
    if key is None:
        return {}
    kind, name = (
        ("Pod", key.name[4:]) if is_pod((key.namespace, key.name)) else ("Service", key.name)
    )
    return {"kind": kind, "namespace": key.namespace, "name": name, "port_name": key.port_name}


def _memory() -> dict[str, int]:
    """Resident memory of this process in kB: now, and at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {name: int(found[name].split()[0]) for name in ("VmRSS", "VmHWM")}
