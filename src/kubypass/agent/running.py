# SPDX-License-Identifier: Apache-2.0
"""An agent after its first sync: it follows the cluster, pods and addresses, and keeps the maps true.

One thread does all the work; while programs load, it does what cannot wait (beside.py). An event only says "look
again at these"; a look at everything, once a minute, must find nothing to do. Ending the agent leaves the datapath in
place.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from kubypass.agent.agent import Agent
from kubypass.agent.bind_protection import BindProtection
from kubypass.agent.kernel_look import KernelLook
from kubypass.agent.local_endpoints import count_without_local
from kubypass.agent.log import log
from kubypass.agent.pod_network import PodNetwork, open_pod_network
from kubypass.agent.programs import Programs
from kubypass.agent.repairs import Repairs
from kubypass.agent.report.figures import Figures
from kubypass.agent.report.map_fill import Fill, fill_problems, read_fills
from kubypass.agent.report.problem_events import ProblemEvents
from kubypass.agent.report.problem_groups import group_problems
from kubypass.agent.report.snat import snat_problems
from kubypass.agent.services import Result, Services
from kubypass.agent.stale_sockets import StaleSockets
from kubypass.datapath import loader
from kubypass.datapath.changes import Changes
from kubypass.datapath.sizes import FLOW_MAPS, map_sizes
from kubypass.datapath.snat_failures import read_snat_failures
from kubypass.errors import ConfigError
from kubypass.model.address import Family
from kubypass.model.problem import Problem
from kubypass.model.service import ServiceKey
from kubypass.node.bypassed_rules import bypassed_rules
from kubypass.node.routes import sync_routes
from kubypass.plan.cidrs import Overlaps
from kubypass.plan.routes import plan_routes
from kubypass.plan.snat import more_ports_advice, plan_snat_ports

SWEEP_S = 0.25
_PASS_S = 15.0


class Running:
    """Everything that the first sync makes. The loop calls it, `report` shows it."""

    def __init__(self, agent: Agent) -> None:
        """From nothing, or from what an earlier agent left, to a datapath that is complete and attached."""
        started = time.perf_counter()
        self._agent = agent
        self.repairs, self._kernel_look = Repairs(agent), KernelLook()
        self.disturbed = False
        """Whether somebody has undone a part of our work, so that `repair` is due at once."""
        self._addresses = frozenset(agent.node.addresses)
        self._undone: set[str] = set()
        """What was undone and could not be put back."""
        self.network_due = False
        """Whether Node objects or settings have changed, so that `on_network` is due with its routes."""
        agent.look_at_node()
        self.repairs.sysctls()
        settings, snapshot = agent.settings, agent.snapshot
        self.programs = Programs(agent)
        maps, closing = self.programs.datapath.maps, agent.features.close_sockets
        self.stale = StaleSockets(settings, agent.directory.cgroup, maps, possible=closing)
        self.binds = BindProtection(settings, maps["refused_binds"], agent.follower.announce)
        self._events = ProblemEvents(snapshot, agent.options.node, agent.source.announce)
        node = agent.plan_node()
        self.services = Services(snapshot, node, settings, maps, self._before_write)
        result = self.services.sync_all()
        self._count(result)
        _log_result(result, "services complete")
        self._note_own_node()
        self._route_problems, self._overlaps = self._sync_routes()
        self.programs.attach()
        self.programs.acceleration.refuse_incomplete()
        self.programs.sweep.check_sources(self._addresses, settings.conntrack.tcp_fin_timeout_ns)
        self._served(result, snapshot.services.keys() | snapshot.slices.keys(), full=True)
        self.pod_network: PodNetwork | None = open_pod_network(agent, self.programs.network)
        agent.timings["start_s"] = agent.timings["parse_s"] + time.perf_counter() - started

    def _before_write(self, changes: Changes, services: Mapping[bytes, bytes]) -> None:
        self.stale.note(changes)
        self.programs.sweep.note(services, changes.services)

    def _look_at_node(self) -> bool:
        """Whether the node could be read; where it has lost its uplink for now, it stays as it was known."""
        try:
            self._agent.look_at_node()
        except ConfigError as error:  # a link may come and go
            log("the node has no uplink", "WARNING", error=error)
            return False
        return True

    def _count(self, result: Result) -> None:
        timings = self._agent.timings
        self._agent.writes["maps"] += result.writes
        timings.update(plan_s=result.plan_s, kernel_s=result.kernel_s)
        timings["apply_s"] = result.plan_s + result.kernel_s

    def _served(self, result: Result, keys: Iterable[ServiceKey], *, full: bool) -> None:
        """Reports services that are in the maps now to metrics and to load balancers' probes."""
        agent, metrics, health = self._agent, self._agent.sync_metrics, self._agent.health
        spent = result.plan_s + result.kernel_s
        metrics.count_pass(spent, full=full, queued=health.queued, done=health.now())
        metrics.count_changes(agent.snapshot, keys)
        metrics.count_programming(agent.source.take_triggers(), health.now())
        self._follow_ports(keys)

    def _follow_ports(self, keys: Iterable[ServiceKey]) -> None:
        agent, node = self._agent, self._agent.node
        agent.ports.follow(agent.snapshot, keys, node.addresses, tuple(node.primary.values()))
        self.binds.follow(agent.snapshot.services, keys, node.with_node_ports)

    def figures(self) -> Figures:
        """What is counted now, for status and metrics."""
        services, frontends, backends = self.services.count
        maglev, without_table = self.services.with_maglev
        network, sweep, stale = self.programs.network, self.programs.sweep, self.stale
        masquerading = self.programs.masquerading
        fills = self._fills()
        return Figures(
            started=True,
            services=services,
            frontends=frontends,
            backends=backends,
            maglev=maglev,
            without_table=without_table,
            pods=network.pods,
            excluded_pods=network.excluded,
            foreign_source_pods=network.foreign_sources,
            masqueraded=masquerading.families,
            not_masqueraded=masquerading.why,
            inside=len(masquerading.inside),
            lost_sources=sweep.lost_sources,
            dsr=self._agent.direct_return.figures(),
            legacy_host=self.programs.legacy_host,
            conntrack_bypass=self._agent.conntrack_bypass.state,
            accelerated=self.programs.acceleration.devices,
            flows=sum(self.programs.fill.entries[name] for name in FLOW_MAPS),
            fills=fills,
            flows_expired=sweep.removed,
            links_written=self.programs.attachments.writes,
            sockets_closed={protocol: stale.closed[protocol] for protocol in stale.protocols},
            pools=tuple(self.pod_network.pools) if self.pod_network else (),
            repairs=self.repairs.count,
            problems=tuple(self._problems(fills)),
            upgrade=tuple(self.programs.datapath.notes),
        )

    def _fills(self) -> tuple[Fill, ...]:
        fill, maps = self.programs.fill, self.programs.datapath.maps
        entries = {**self.services.in_use, **fill.entries}
        return read_fills(maps, entries, self._agent.settings, fill.evictions)

    def services_without_local(self) -> dict[tuple[Family, str], int]:
        """Service ports whose Local policy finds no endpoint on this node, by family and policy."""
        agent, snapshot = self._agent, self._agent.snapshot
        services = list(snapshot.services.values())
        return count_without_local(services, snapshot.slices, agent.options.node, agent.settings)

    def _problems(self, fills: tuple[Fill, ...]) -> list[Problem]:
        """Everything that is wrong now."""
        agent = self._agent
        config_map = agent.follower.config_map
        _, snat = plan_snat_ports(agent.settings, agent.node.ephemeral)
        return [
            *agent.source.problems(),
            *self.services.problems(),
            *self.programs.network.problems,
            *(config_map.problems if config_map else ()),
            *(self.pod_network.problems if self.pod_network else ()),
            *self._route_problems,
            *self._overlaps.problems(),
            *agent.ports.problems,
            *self.binds.problems,
            *agent.attempts.problems(),
            *fill_problems(fills),
            *agent.faults.problems(),
            *self.repairs.problems,
            *self.programs.problems,
            *self.programs.network.device_problems,
            *self.programs.acceleration.problems,
            *self.programs.masquerading.problems,
            *agent.problems,
            *snat,
            *agent.node.problems,
        ]

    def look(self) -> None:
        """Looks at what programs have noted, and tells of problems that came or went."""
        self._agent.ports.look()
        self.binds.look()
        if self.programs.masquerading.look():
            self._masquerade(thorough=False)
        self._agent.look()
        self.programs.fill.step(self.services.affinities)
        failures = read_snat_failures(self.programs.datapath.maps["snat_failures"])
        advice = more_ports_advice(self._agent.settings, self._agent.node.ephemeral)
        snat = snat_problems(failures, time.monotonic_ns(), advice)
        groups = group_problems([*self._problems(self._fills()), *snat])
        self._agent.problem_log.look(groups)
        self._events.look(groups)

    def on_source(self) -> None:
        """Takes in what the source has, and brings the maps up to date."""
        agent = self._agent
        started = time.perf_counter()
        dirty = agent.source.take()
        if dirty:
            result = self.services.sync(dirty)
            self._overlaps.update(dirty)
            self._count(result)
            if result.writes:
                _log_result(result, "services changed")
            self._served(result, dirty, full=False)
            agent.timings["last_change_ms"] = 1000 * (time.perf_counter() - started)
        differently = agent.follower.treats_pods_differently(agent.settings)
        settings = agent.follower.settings(agent.settings)
        if settings != agent.settings:
            agent.settings = self.programs.network.settings = settings
            self.network_due = True
        self.network_due |= differently or bool(agent.source.changed_nodes)

    def _check_nodes(self) -> None:
        """Follows Node objects: our own, the routes to other nodes' pods, and networks that overlap."""
        agent = self._agent
        moved = agent.options.node in agent.source.changed_nodes
        if moved and self._look_at_node():
            self._move()
        self._masquerade(thorough=False)
        self._note_own_node()
        self._route_problems, self._overlaps = self._sync_routes()
        self._look_at_pod_network()

    def _masquerade(self, *, thorough: bool) -> None:
        """Follows what pods reach with their own addresses, and with which addresses of the node they leave."""
        agent, programs = self._agent, self.programs
        nodes, pods = agent.snapshot.nodes.values(), programs.network.addresses
        agent.writes["maps"] += programs.masquerading.sync(
            agent.node, nodes, pods, thorough=thorough
        )
        agent.follow_nodes(nodes, thorough=thorough)
        addresses = frozenset(agent.node.addresses)
        if self._addresses - addresses:
            programs.sweep.check_sources(addresses, agent.settings.conntrack.tcp_fin_timeout_ns)
        self._addresses = addresses

    def _note_own_node(self) -> None:
        own = self._agent.own_node
        self._agent.health.node_eligible = not (own and own.leaving)
        self._agent.source.changed_nodes.clear()

    def _sync_routes(self) -> tuple[list[Problem], Overlaps]:
        agent, settings = self._agent, self._agent.settings
        nodes = agent.snapshot.nodes
        routes, problems = plan_routes(nodes.values(), agent.plan_node(), settings)
        changed, failed = sync_routes(routes, settings)
        agent.writes["routes"] += changed
        overlaps = Overlaps(nodes.values(), agent.snapshot.services, settings)
        return [*problems, *failed], overlaps

    def _look_at_pod_network(self, *, thorough: bool = False) -> None:
        if self.pod_network:
            agent, network = self._agent, self.programs.network
            self.pod_network.look(network, agent.node, agent.own_node, thorough=thorough)

    def _move(self) -> None:
        """The node's addresses, zone or networks may have changed."""
        agent = self._agent
        config, sizes = agent.datapath_config(), map_sizes(agent.settings)
        if loader.signature(config, sizes) != agent.attached.signature:
            log("the node's facts or settings changed: programs are replaced")
            self.put_sysctls_back()
            self.programs = Programs(agent, self.put_sysctls_back)
            self.programs.attach()
        elif agent.node.uplinks != self.programs.uplinks:
            log("uplinks", devices=" ".join(link.name for link in agent.node.uplinks))
            self.programs.attach_own_devices(self.put_sysctls_back)
        if self.services.move(agent.plan_node()):
            result = self.services.sync_all()
            self._count(result)
            if result.writes:
                _log_result(result, "services planned again for the node")
            self._served(result, agent.snapshot.services.keys(), full=True)

    def on_network(self, *, routes: bool = False) -> bool:
        """Follows devices, addresses or pods, and with `routes` those to other nodes; False where a part failed."""
        self.network_due = False
        before = self._agent.node.routing_inputs
        if self._look_at_node():
            self._follow_network(thorough=False)
            if routes or before != self._agent.node.routing_inputs:
                self._check_nodes()
        return self._complete()

    def _follow_network(self, *, thorough: bool) -> None:
        """Follows all that depends on how the node was last seen, its addresses first."""
        network = self.programs.network
        written = network.sync(self._agent.node, thorough=thorough)
        if self.repairs.has_new(network.devices):
            self._note_repair(sysctls=self.repairs.sysctls(network.devices))
        self._masquerade(thorough=thorough)
        self._move()
        self._follow_ports(())
        self._agent.writes["maps"] += written
        if written:
            log("endpoints changed", writes=written, pods=self.programs.network.pods)
        self._look_at_pod_network(thorough=thorough)

    def check_services(self) -> None:
        """Checks the services: changes that no event reported, and what others wrote into the maps."""
        agent = self._agent
        started = time.perf_counter()
        result = self.services.check()
        if result.writes:
            log("maps repaired", "WARNING", writes=result.writes)
            agent.writes["maps"] += result.writes
        dirty = agent.source.scan()
        if dirty:
            agent.writes["maps"] += self.services.sync(dirty).writes
        self._served(result, agent.snapshot.services.keys() | dirty, full=True)
        agent.timings["check_s"] = time.perf_counter() - started

    def outages(self) -> list[Problem]:
        """What keeps pods or services of this node from being served."""
        programs = self.programs
        return [*self.repairs.outages, *programs.problems, *programs.network.device_problems]

    def look_at_kernel(self) -> None:
        """Looks whether somebody has undone a part of our work; until it is put back, the node is not healthy."""
        found = self._kernel_look.undone(self.programs, self._agent.node)
        if found - self._undone:
            self._undone |= found
            self.disturb(*sorted(found))

    def keep_forwarding(self) -> None:
        """Switches on at once what forwarding needs, whatever else cannot be put back."""
        if self.repairs.sysctls_due:
            self.put_sysctls_back()

    def put_sysctls_back(self) -> None:
        """Looks at the sysctls that services and pods need, and sets those that are not as they should be."""
        self._note_repair(sysctls=self.repairs.sysctls(self.programs.network.devices))
        if not self.disturbed:  # else `repair` says what is left
            self._agent.health.outages = tuple(map(str, self.outages()))

    def disturb(self, *what: str) -> None:
        """Somebody has undone a part of our work: forwarding is put back now, and `repair` is due next."""
        self.disturbed = True
        self._note_repair(sysctls=self.repairs.sysctls(self.programs.network.devices))
        self._agent.health.outages = (*what, *map(str, self.outages()))

    def repair(self) -> bool:
        """Puts back pins, attachments, local addresses, routes and sysctls; False where something cannot be.

        What somebody has undone again meanwhile is no failure of this repair: another one is due.
        """
        agent = self._agent
        self.disturbed = False
        links, routes = self.programs.attachments.writes, agent.writes["routes"]
        seen = self._look_at_node()
        sysctls = self.repairs.sysctls(self.programs.network.devices)
        pins = self.repairs.pins(self.programs)
        if seen:
            self.programs.attach_node()
            self._follow_network(thorough=True)
            self._check_nodes()
        links, routes = self.programs.attachments.writes - links, agent.writes["routes"] - routes
        self._note_repair(links=links, pins=pins, routes=routes, sysctls=sysctls)
        agent.bypassed = bypassed_rules(
            agent.settings
        )  # after the repair: others may have many rules
        everything = len(self.programs.attachments.pins)
        self._undone = self._kernel_look.undone(self.programs, agent.node, everything)
        self.disturbed = bool(self._undone and (links or pins))
        return self._complete() and not self._undone

    def _note_repair(self, **counts: int) -> None:
        if any(counts.values()):
            self.repairs.count += 1
            log("repaired", "WARNING", **counts)

    def _complete(self) -> bool:
        """Notes whether all that belongs to this node is served; False where another look may do more."""
        self.repairs.unpinned(self.programs)
        self._agent.health.outages = tuple(map(str, self.outages()))
        failed = self.outages() or self.repairs.problems
        return not failed and not self.programs.network.incomplete

    def sweep(self) -> float:
        """Does one step through the flows; returns seconds until the next."""
        return SWEEP_S if self.programs.sweep.step() else _PASS_S


def _log_result(result: Result, event: str) -> None:
    spent = 1000 * (result.plan_s + result.kernel_s)
    log(event, services=result.services, writes=result.writes, ms=spent)
