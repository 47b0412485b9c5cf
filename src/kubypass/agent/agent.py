# SPDX-License-Identifier: Apache-2.0
"""The agent: starts the datapath, follows the cluster, pods and addresses, and keeps the maps true.

One thread does all the work. An event only says "look again at these"; a look at everything, once a minute, must find
nothing to do. Ending the agent leaves the datapath in place.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from kubypass.agent.bind_protection import BindProtection
from kubypass.agent.http_ports import HttpPorts
from kubypass.agent.local_endpoints import count_without_local
from kubypass.agent.local_network import Network
from kubypass.agent.log import log
from kubypass.agent.options import Options
from kubypass.agent.pod_network import PodNetwork
from kubypass.agent.prepare import cgroup_hooks, datapath_config, map_sizes
from kubypass.agent.report.sync_metrics import SyncMetrics
from kubypass.agent.run_directory import Place
from kubypass.agent.services import Result, Services
from kubypass.agent.source.cluster_follower import Following
from kubypass.agent.source.source import Source
from kubypass.agent.stale_sockets import StaleSockets
from kubypass.api.metric import Metric
from kubypass.datapath import layout, loader
from kubypass.datapath.attach import Attachments
from kubypass.datapath.changes import Changes
from kubypass.datapath.flow_expiry import Sweep
from kubypass.datapath.loader import Datapath
from kubypass.datapath.pins import Pins
from kubypass.errors import ConfigError
from kubypass.kernel.features import Features, probe_features
from kubypass.kernel.netlink import Link
from kubypass.kube.snapshot import Snapshot
from kubypass.model.node import Node
from kubypass.model.problem import Problem
from kubypass.model.service import ServiceKey
from kubypass.node.facts import NodeState, read_node
from kubypass.node.reserved_ports import reserve_node_ports
from kubypass.node.routes import sync_routes
from kubypass.node.sysctls import set_sysctls
from kubypass.plan.cidrs import Overlaps
from kubypass.plan.items import PlanNode
from kubypass.plan.routes import plan_routes
from kubypass.plan.snat import plan_snat_ports
from kubypass.settings.finding import Finding
from kubypass.settings.settings import Settings

SWEEP_S = 0.25
_PASS_S = 15.0


class Agent:
    """One node's agent. The attributes are what `report` shows of it."""

    def __init__(
        self,
        options: Options,
        place: Place,
        settings: Settings,
        *,
        findings: tuple[Finding, ...],
        following: Following,
        ports: HttpPorts,
    ) -> None:
        self.options = options
        self.settings, self.findings = settings, findings
        self.cgroup, self.mounted, self.state = place.cgroup, place.mounted, place.state
        self.features: Features = probe_features()
        self.node: NodeState = read_node(self.settings)
        self.source: Source = following.source
        self.following = following
        self.snapshot: Snapshot = following.snapshot
        self.writes = {"maps": 0, "routes": 0, "sysctls": 0}
        self.timings: dict[str, float] = {"parse_s": 0.0}
        self.healthy = False
        self.ports, self.health = ports, ports.health
        self.pod_network = PodNetwork(options, self.settings, self.state)
        self._sync_metrics = SyncMetrics(self.settings)
        self._route_problems: list[Problem] = []
        self._overlaps: Overlaps
        self.datapath: Datapath
        self.services: Services
        self.stale: StaleSockets
        self.binds: BindProtection
        self.network: Network
        self.attachments: Attachments
        self._sweep: Sweep
        self._wanted = ("", "")
        """Signature and constants of the programs that are being put in place."""
        self._uplinks: tuple[Link, ...] = ()
        """Those with programs on them."""

    def follow(self) -> None:
        """Begins to follow the cluster."""
        started = time.perf_counter()
        self.source.start()
        self.timings["parse_s"] += time.perf_counter() - started

    def start(self) -> None:
        """From nothing, or from what an earlier agent left, to a datapath that is complete and attached."""
        started = time.perf_counter()
        if self.mounted:
            self.state.mounted_bpffs = True
        self.writes["sysctls"] += set_sysctls(self.state, self.settings)
        self.writes["sysctls"] += reserve_node_ports(self.state, self.settings)
        snapshot = self.snapshot
        self._look_at_node()
        self._open_datapath()
        maps, closing = self.datapath.maps, self.features.close_sockets
        self.stale = StaleSockets(self.settings, self.cgroup, maps, possible=closing)
        self.binds = BindProtection(self.settings, maps["refused_binds"], self.following.announce)
        self.services = Services(
            snapshot,
            self._plan_node(),
            self.settings,
            maps,
            self._before_write,
        )
        result = self.services.sync_all()
        self._note_result(result, "services complete")
        self.check_nodes()
        self._attach()
        self._tell(result, snapshot.services.keys() | snapshot.slices.keys(), full=True)
        self.pod_network.start(self.network, self.node, self._own)
        self.healthy = True
        self.timings["start_s"] = self.timings["parse_s"] + time.perf_counter() - started

    def _before_write(self, changes: Changes, services: Mapping[bytes, bytes]) -> None:
        self.stale.note(changes)
        self._sweep.note(services, changes.services)

    @property
    def _own(self) -> Node | None:
        """The Node object of the node that we are."""
        return self.snapshot.nodes.get(self.options.node)

    def _look_at_node(self) -> bool:
        """False where the node has lost its uplink for now: then it stays as it was known. ConfigError at the start."""
        own = self._own
        try:
            self.node = read_node(self.settings, own.addresses if own else ())
        except ConfigError as error:  # a link that comes and goes
            if not self.healthy:
                raise
            log("the node has no uplink", "WARNING", error=error)
            return False
        return True

    def _plan_node(self) -> PlanNode:
        primary, addresses = self.node.primary.values(), self.node.addresses
        return PlanNode.of(self.options.node, self._own, primary, addresses)

    def _config(self) -> layout.Config:
        own, node = self._own, self.node
        pod_cidrs = own.pod_cidrs if own else ()
        return datapath_config(
            self.settings, self.features, node.primary, pod_cidrs, node.ephemeral
        )

    def _open_datapath(self) -> None:
        pins = Pins(self.options.bpffs)
        config = self._config()
        sizes = map_sizes(self.settings)
        wanted = loader.signature(config, sizes)
        found = loader.find(pins) if self.state.signature == wanted else None
        self.datapath = found or loader.load(pins, config, sizes)
        log(
            "datapath ready",
            programs="loaded" if self.datapath.loaded else "kept",
            signature=wanted,
        )
        self._wanted = wanted, config.pack().hex()
        self.attachments = Attachments(pins.links, tcx=self.features.tcx)
        self._sweep = Sweep(self.datapath.maps["flows"])

    def _attach(self) -> None:
        """Switches traffic to programs and maps that are complete."""
        self.state.tcx = self.features.tcx
        pods = self.options.run / "pods"
        metadata = self.snapshot.pod_metadata
        self.network = Network(self.datapath, self.attachments, pods, self.settings, metadata)
        loader.prepare_switch(self.datapath)
        self.writes["maps"] += self.network.sync(self.node)
        self._attach_node()
        if self.datapath.loaded:
            loader.finish_switch(self.datapath)
        self.state.signature, self.state.config = self._wanted
        self.state.save()
        for note in self.datapath.notes:
            log("datapath rebuilt", note=note)
        log("attached", writes=self.attachments.writes, pods=self.network.pods)

    def _attach_node(self) -> None:
        """The hooks that are no pod's."""
        self._attach_own_devices()
        hooks = cgroup_hooks(self.settings)
        self.attachments.attach_cgroup(self.cgroup, self.datapath.programs, hooks)

    def _attach_own_devices(self) -> None:
        names = {link.name for link in self.node.own_devices}
        self.state.devices = sorted(names.union(self.state.devices))
        self.state.save()
        self.network.attach_own_devices(self.node)
        self._uplinks = self.node.uplinks

    def _note_result(self, result: Result, event: str) -> None:
        self.writes["maps"] += result.writes
        self.timings.update(plan_s=result.plan_s, kernel_s=result.kernel_s)
        self.timings["apply_s"] = result.plan_s + result.kernel_s
        if result.writes or not self.healthy:
            spent = 1000 * (result.plan_s + result.kernel_s)
            log(event, services=result.services, writes=result.writes, ms=spent)

    def _tell(self, result: Result, keys: Iterable[ServiceKey], *, full: bool) -> None:
        """These services are served as they are now: metrics and load balancers' probes may know."""
        spent, health = result.plan_s + result.kernel_s, self.health
        self._sync_metrics.count_pass(spent, full=full, queued=health.queued, done=health.now())
        self._sync_metrics.count_changes(self.snapshot, keys)
        triggers, self.source.triggers = self.source.triggers, []
        self._sync_metrics.count_programming(triggers, health.now())
        self._follow_ports(keys)

    def _follow_ports(self, keys: Iterable[ServiceKey]) -> None:
        primary = tuple(self.node.primary.values())
        self.ports.follow(self.snapshot, keys, self.node.addresses, primary)
        self.binds.follow(self.snapshot.services, keys, self.node.with_node_ports)

    def proxy_metrics(self) -> list[Metric]:
        """kube-proxy's metrics."""
        without_local = {}
        if self.healthy:
            services = list(self.snapshot.services.values())
            slices, node = self.snapshot.slices, self.options.node
            without_local = count_without_local(services, slices, node, self.settings)
        return self._sync_metrics.metrics(self.ports.answers, without_local)

    def problems(self) -> list[Problem]:
        """Everything that is wrong now."""
        found = [*self.source.problems(), *self.services.problems(), *self.network.problems]
        configuration = self.following.configuration
        found += configuration.problems if configuration else ()
        _, snat = plan_snat_ports(self.settings, self.node.ephemeral)
        return [
            *found,
            *self.pod_network.problems,
            *self._route_problems,
            *self._overlaps.problems(),
            *self.ports.problems,
            *self.binds.problems,
            *snat,
        ]

    def take(self) -> None:
        """Takes in what the source has, before anything is made of it."""
        started = time.perf_counter()
        self.following.take()
        self.timings["parse_s"] += time.perf_counter() - started
        self.following.refuse_own_service(self.settings)

    def on_source(self) -> None:
        """Something has come."""
        started = time.perf_counter()
        dirty = self.following.take()
        if dirty:
            result = self.services.sync(dirty)
            self._overlaps.update(dirty)
            self._note_result(result, "services changed")
            self._tell(result, dirty, full=False)
            self.timings["last_change_ms"] = 1000 * (time.perf_counter() - started)
        if self.source.changed_nodes:
            self.check_nodes()
        if self.following.excludes_others(self.settings):
            self.on_network()
        settings = self.following.settings(self.settings)
        if settings != self.settings:
            self.settings = self.network.settings = settings
            self.check_nodes()
            self.on_network()

    def check_nodes(self) -> None:
        """Routes to other nodes' pods, networks that overlap, and what this node's own object says."""
        own = self._own
        self.health.node_eligible = not (own and own.leaving)
        moved = self.options.node in self.source.changed_nodes and self.healthy
        if moved and self._look_at_node():
            self._move()
        self.source.changed_nodes.clear()
        snapshot = self.snapshot
        routes, problems = plan_routes(snapshot.nodes.values(), self._plan_node(), self.settings)
        changed, failed = sync_routes(routes, self.settings)
        self.writes["routes"] += changed
        self._route_problems = [*problems, *failed]
        self._overlaps = Overlaps(snapshot.nodes.values(), snapshot.services, self.settings)
        if self.healthy:
            self.pod_network.look(self.network, self.node, own)

    def _move(self) -> None:
        """The node's addresses, zone or networks may be others now."""
        if loader.signature(self._config(), map_sizes(self.settings)) != self.state.signature:
            log("the node's addresses changed: programs are replaced")
            self._open_datapath()
            self._attach()
        elif self.node.uplinks != self._uplinks:
            log("uplinks", devices=" ".join(link.name for link in self.node.uplinks))
            self._attach_own_devices()
        if self.services.move(self._plan_node()):
            result = self.services.sync_all()
            self._note_result(result, "services planned anew for the node")
            self._tell(result, self.snapshot.services.keys(), full=True)

    def on_network(self) -> None:
        """Devices, addresses or pods changed."""
        before = self.node.routing_inputs
        if self._look_at_node():
            self._follow_network(thorough=False)
            if before != self.node.routing_inputs:
                self.check_nodes()

    def _follow_network(self, *, thorough: bool) -> None:
        """All that depends on how the node was seen at the last look."""
        self._move()
        self._follow_ports(())
        written = self.network.sync(self.node, thorough=thorough)
        self.writes["maps"] += written
        if written:
            log("endpoints changed", writes=written, pods=self.network.pods)
        self.pod_network.look(self.network, self.node, self._own, thorough=thorough)

    def full_check(self) -> None:
        """Everything again: what an event has failed to tell, and what somebody else has changed in the kernel."""
        started = time.perf_counter()
        result = self.services.check()
        if result.writes:
            log("maps repaired", "WARNING", writes=result.writes)
            self.writes["maps"] += result.writes
        dirty = self.source.scan()
        if dirty:
            log("a change was missed until now", "WARNING", services=len(dirty))
            self.writes["maps"] += self.services.sync(dirty).writes
        self._tell(result, self.snapshot.services.keys() | dirty, full=True)
        self._repair()
        self.timings["check_s"] = time.perf_counter() - started

    def _repair(self) -> None:
        """Puts back pins, attachments, endpoints, routes and sysctls."""
        links, routes = self.attachments.writes, self.writes["routes"]
        sysctls = set_sysctls(self.state, self.settings)
        self.writes["sysctls"] += sysctls
        pins = loader.pin_missing(self.datapath)
        if self._look_at_node():
            self._attach_node()
            self._follow_network(thorough=True)
            self.check_nodes()
        links, routes = self.attachments.writes - links, self.writes["routes"] - routes
        if links or pins or routes or sysctls:
            log("repaired", "WARNING", links=links, pins=pins, routes=routes, sysctls=sysctls)

    def retry(self) -> None:
        """Tries again what did not work, or has to be done until it is no more to be done."""
        self.ports.retry()
        self.following.say_ready(self.settings)

    def sweep(self) -> float:
        """One step through the flows; returns seconds until the next."""
        return SWEEP_S if self._sweep.step() else _PASS_S

    @property
    def sweep_is_urgent(self) -> bool:
        """Flows have to leave that programs would still follow."""
        return self._sweep.urgent

    @property
    def flows(self) -> tuple[int, int]:
        """Flows that the last pass over the map found, and expired ones removed since the start."""
        return self._sweep.live, self._sweep.removed
