# SPDX-License-Identifier: Apache-2.0
"""The programs and maps in this node's kernel, and where the programs are attached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kubypass.agent.acceleration import Acceleration
from kubypass.agent.agent import Agent
from kubypass.agent.beside import do_beside
from kubypass.agent.local_network import Network
from kubypass.agent.log import log
from kubypass.agent.masquerading import Masquerading
from kubypass.datapath import loader
from kubypass.datapath.attach import Attachments
from kubypass.datapath.config import cgroup_hooks
from kubypass.datapath.flow_expiry import Sweep
from kubypass.datapath.loader import Datapath
from kubypass.datapath.map_fill import MapFill
from kubypass.datapath.pins import Pins
from kubypass.datapath.sizes import FLOW_MAPS, map_sizes
from kubypass.errors import KernelError
from kubypass.kernel.netlink import FrameHeader, Link
from kubypass.model.problem import Problem
from kubypass.node.attached_programs import AttachedPrograms, write_attached
from kubypass.node.record import Change, Kind


class Programs:
    """One set of programs, with constants that stay the same. Other constants need another set."""

    def __init__(self, agent: Agent, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Keeps the programs that an earlier agent left if they are the same, else loads them; attaches nothing.

        Loading takes seconds, in which `meanwhile` is called now and then.
        """
        self._agent = agent
        pins = Pins(agent.options.bpffs)
        config, sizes = agent.datapath_config(), map_sizes(agent.settings)
        self._config, self._sizes = config, sizes
        self.signature = loader.signature(config, sizes)
        self._constants = config.pack().hex()
        found = loader.find(pins) if agent.attached.signature == self.signature else None
        self.datapath: Datapath = found or do_beside(
            lambda: loader.load(pins, config, sizes), meanwhile
        )
        log(
            "datapath ready",
            programs="loaded" if self.datapath.loaded else "kept",
            signature=self.signature,
        )
        self.attachments = Attachments(pins.links, tcx=agent.features.tcx)
        self.sweep = Sweep(*(self.datapath.maps[name] for name in FLOW_MAPS))
        self.fill = MapFill(self.datapath.maps)
        pods, metadata = agent.options.run / "pods", agent.snapshot.pod_metadata
        self.network = Network(self.datapath, self.attachments, pods, agent.settings, metadata)
        self.masquerading = Masquerading(self.datapath.maps, agent.settings, agent.agent_list)
        agent.direct_return.use(self.datapath.maps)
        self.acceleration = Acceleration(
            self.datapath,
            self.attachments,
            agent.settings.acceleration,
            lambda name: loader.add_xdp_program(self.datapath, config, sizes, name),
            frags=agent.features.xdp_frags,
        )
        self._switched = False
        """Whether all links have these programs, so that nothing of other maps is in use."""
        self.uplinks: tuple[Link, ...] = ()
        """The uplinks with programs on them."""
        self.problems: list[Problem] = []
        """What keeps the socket programs from being attached."""

    def attach(self) -> None:
        """Switches traffic to these programs; the maps are complete by now."""
        agent = self._agent
        self._record_filters()
        self.acceleration.pause()
        loader.prepare_switch(self.datapath)
        if self.datapath.loaded:
            first = "egress" if self._config.passages_a_cpu else "ingress"
            self.network.switch_direction(agent.node, first)
        agent.writes["maps"] += self.network.sync(agent.node)
        nodes, pods = agent.snapshot.nodes.values(), self.network.addresses
        agent.writes["maps"] += self.masquerading.sync(agent.node, nodes, pods)
        self.attach_node()
        if self.datapath.loaded:
            loader.finish_switch(self.datapath)
        self._switched = True
        agent.writes["maps"] += self.acceleration.sync(agent.node)
        attached = AttachedPrograms(self.signature, self._constants)
        if attached != agent.attached:
            write_attached(agent.options.run, attached)
            agent.attached = attached
        for note in self.datapath.notes:
            log("datapath rebuilt", note=note)
        log("attached", writes=self.attachments.writes, pods=self.network.pods)

    @property
    def legacy_host(self) -> bool:
        """Whether these programs leave it to the node's stack to forward packets."""
        return self._config.passages_a_cpu > 0

    def pins(self) -> dict[Path, Callable[[], set[str]]]:
        """The directories below the bpffs, and what is to be pinned in each."""
        pins = self.datapath.pins
        return {
            pins.maps: lambda: set(self.datapath.maps),
            pins.programs: lambda: set(self.datapath.programs),
            pins.links: lambda: self.attachments.pins,
        }

    def attach_node(self) -> None:
        """Attaches the programs of the node: those of its devices, and those of its sockets."""
        self.attach_own_devices()
        hooks = cgroup_hooks(self._agent.settings)
        cgroup = self._agent.directory.cgroup
        self.problems = []
        try:
            self.attachments.attach_cgroup(cgroup, self.datapath.programs, hooks)
        except (KernelError, OSError) as error:
            message = f"sockets are not balanced: {error}; it is tried again"
            self.problems = [Problem(f"Cgroup {cgroup}", message)]

    def attach_own_devices(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Attaches the programs of the uplinks and of the loopback device.

        Devices without Ethernet header may need programs that are not loaded yet: `meanwhile` is called as above.
        """
        node = self._agent.node
        self._record_filters()
        bare = any(link.header == FrameHeader.NONE for link in node.uplinks)
        if bare and loader.needs_l3_programs(self.datapath):
            self._add_l3_programs(meanwhile)
        self.network.attach_own_devices(node)
        self.uplinks = node.uplinks
        if self._switched:
            self._agent.writes["maps"] += self.acceleration.sync(node)

    def _add_l3_programs(self, meanwhile: Callable[[], None]) -> None:
        datapath, config, sizes = self.datapath, self._config, self._sizes
        try:
            loaded = do_beside(lambda: loader.load_l3_programs(datapath, config, sizes), meanwhile)
            loader.add_l3_programs(datapath, loaded)
        except (KernelError, OSError) as error:  # status names each device that has no programs
            log("no programs for devices without Ethernet header", error=error)

    def _record_filters(self) -> None:
        """Records the devices that get clsact filters, which stay where nobody removes them. Links need no record."""
        if not self._agent.features.tcx:
            for link in self._agent.node.own_devices:
                self._agent.record.add(Change(Kind.FILTERS, link.name))
