# SPDX-License-Identifier: Apache-2.0
"""What an agent has before its first sync: options, settings, the node, the source, the ports."""

from __future__ import annotations

import time
from collections.abc import Collection

from kubypass.agent.attempts import Attempts
from kubypass.agent.conntrack_bypass import ConntrackBypass
from kubypass.agent.direct_return import DirectReturn
from kubypass.agent.faults import Faults
from kubypass.agent.http_ports import HttpPorts
from kubypass.agent.masquerading import open_agent_list
from kubypass.agent.node_fit import refuse_unfit, unfit_problems
from kubypass.agent.options import Options
from kubypass.agent.report.problem_log import ProblemLog
from kubypass.agent.report.sync_metrics import SyncMetrics
from kubypass.agent.run_directory import RunDirectory
from kubypass.agent.source.cluster_follower import ClusterFollower
from kubypass.agent.source.source import Source
from kubypass.datapath import layout
from kubypass.datapath.config import datapath_config
from kubypass.kernel.features import Features, probe_features
from kubypass.kube.snapshot import Snapshot
from kubypass.model.node import Node
from kubypass.model.problem import Problem
from kubypass.node.bypassed_rules import bypassed_rules
from kubypass.node.facts import NodeState, read_node
from kubypass.node.preflight import memory_bytes
from kubypass.plan.items import PlanNode
from kubypass.settings.finding import Finding
from kubypass.settings.settings import Settings


class Agent:
    """One node's agent, whether it runs already or still waits for the cluster."""

    def __init__(
        self,
        options: Options,
        directory: RunDirectory,
        settings: Settings,
        *,
        findings: tuple[Finding, ...],
        follower: ClusterFollower,
        ports: HttpPorts,
        faults: Faults,
    ) -> None:
        self.options = options
        self.settings, self.findings = settings, findings
        self.directory = directory
        self.record, self.attached = directory.record, directory.attached
        self.features: Features = probe_features()
        self.node: NodeState = read_node(settings)
        self.unfit: tuple[Problem, ...] = ()
        """What of the settings does not fit this node."""
        self.bypassed = bypassed_rules(settings)
        """A sentence on netfilter rules that packets of pods and services do not pass; empty where there are none."""
        self._memory_bytes = memory_bytes()
        refuse_unfit(settings, self.node, self._memory_bytes)
        self.follower = follower
        self.source: Source = follower.source
        self.snapshot: Snapshot = follower.snapshot
        self.agent_list = open_agent_list(settings)
        self.direct_return = DirectReturn(settings, options.node)
        self.conntrack_bypass = ConntrackBypass(self.record)
        self.ports, self.health = ports, ports.health
        self.problem_log = ProblemLog()
        self.faults, self.attempts = faults, Attempts(faults)
        self.sync_metrics = SyncMetrics(settings)
        self.writes = {"maps": 0, "routes": 0, "sysctls": 0}
        self.timings: dict[str, float] = {"parse_s": 0.0}

    def follow(self) -> None:
        """Begins to follow the cluster."""
        started = time.perf_counter()
        self.source.start()
        self.timings["parse_s"] += time.perf_counter() - started

    def take(self) -> None:
        """Takes in what has come before the first sync."""
        started = time.perf_counter()
        self.source.take()
        self.timings["parse_s"] += time.perf_counter() - started
        self.follower.refuse_own_service(self.settings)

    def retry(self) -> None:
        """Tries again what failed, and what another may undo."""
        self.ports.retry()
        self.directory.node_lock.forget_askers()
        self.source.say_ready(self.settings.kubernetes.not_ready_taint_key)

    @property
    def own_node(self) -> Node | None:
        """The Node object of this node."""
        return self.snapshot.nodes.get(self.options.node)

    def look_at_node(self) -> None:
        """Reads devices and addresses; ConfigError where the node has no uplink, and `node` stays as it was."""
        own = self.own_node
        self.node = read_node(self.settings, own.addresses if own else ())
        self.unfit = unfit_problems(self.settings, self.node, self._memory_bytes)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with what follows other nodes, and with settings on this one."""
        return (*self.direct_return.problems, *self.conntrack_bypass.problems, *self.unfit)

    def look(self) -> None:
        """Looks at what others do: nodes that are asked, and netfilter rules."""
        self.writes["maps"] += self.direct_return.look()
        self.conntrack_bypass.look()

    def follow_nodes(self, nodes: Collection[Node], *, thorough: bool) -> None:
        """Follows the cluster's nodes and the node's own addresses."""
        self.writes["maps"] += self.direct_return.follow(self.node, nodes, thorough=thorough)
        self.conntrack_bypass.sync(self.settings, nodes, thorough=thorough)

    def plan_node(self) -> PlanNode:
        """The node as plans need it."""
        primary, addresses = self.node.primary.values(), self.node.addresses
        return PlanNode.of(self.options.node, self.own_node, primary, addresses)

    def datapath_config(self) -> layout.Config:
        """The constants of the programs, for the node as it was last seen."""
        own, node = self.own_node, self.node
        pod_cidrs = own.pod_cidrs if own else ()
        return datapath_config(self.settings, self.features, pod_cidrs, node.ephemeral)
