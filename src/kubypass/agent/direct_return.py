# SPDX-License-Identifier: Apache-2.0
"""Keeps `dsr_peers`, the map that tells programs which nodes answer clients by themselves, and tells status of it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from kubypass.agent.log import log
from kubypass.agent.report.figures import DsrFigures
from kubypass.datapath import layout
from kubypass.datapath.synced_map import SyncedMap
from kubypass.errors import KernelError
from kubypass.kernel.bpf import Map
from kubypass.model.address import Address, format_address
from kubypass.model.cidr import Cidr
from kubypass.model.dsr import DsrPath
from kubypass.model.node import Node
from kubypass.model.problem import Problem
from kubypass.model.verdict import DsrDispatch, DsrRefusal
from kubypass.node.dsr_probe import DsrProbe
from kubypass.node.facts import NodeState
from kubypass.plan.dsr import UNASKED, DsrPeer, first_addresses, plan_peers, plan_targets
from kubypass.settings.dsr import AUTO
from kubypass.settings.settings import Settings

_WORDS = {DsrDispatch.NONE: "snat", DsrDispatch.OPTION: "opt", DsrDispatch.GENEVE: "geneve"}


class DirectReturn:
    """Follows nodes and what the probe finds out."""

    def __init__(self, settings: Settings, own: str) -> None:
        self._own, self._dispatch = own, settings.dsr.dispatch
        port, ways = settings.dsr.probe_port, settings.dsr.dispatches
        self._probe = DsrProbe(port, ways) if settings.dsr.wanted else None
        self._nodes: tuple[Node, ...] = ()
        self._planned: dict[Cidr, DsrPeer] = {}
        self._told: Mapping[Address, DsrPath] = {}
        """The ways that were planned last, and are in the map."""
        self._peers: SyncedMap | None = None
        self._refusals: Map | None = None
        self._failed: tuple[Problem, ...] = ()

    def use(self, maps: Mapping[str, Map]) -> None:
        """Keeps these maps from now on."""
        self._peers, self._refusals = SyncedMap(maps["dsr_peers"]), maps["dsr_refusals"]
        self._planned = {}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What keeps DSR from working at all."""
        trouble = self._probe.trouble if self._probe else ""
        found = [Problem("DSR", trouble)] if trouble else []
        if self._dispatch != AUTO:
            found += [
                Problem(
                    f"Node {peer['node']}",
                    f"DSR: {peer['address']} {peer['why']}; connections to its pods are masqueraded. Let "
                    f"{self._dispatch} through, or set bpf-lb-dsr-dispatch: {AUTO}",
                )
                for peer in self.rows()
                if peer["why"] not in {"", UNASKED.why}
            ]
        return (*self._failed, *found)

    def follow(self, node: NodeState, nodes: Iterable[Node], *, thorough: bool = False) -> int:
        """Follows the cluster's nodes; returns how many entries were written."""
        self._nodes = tuple(nodes)
        if self._probe:
            own = tuple(node.primary.values())
            targets = plan_targets(self._nodes, self._own)
            if self._probe.own != own:
                self._probe.own = own
            if self._probe.targets != targets:
                self._probe.targets = targets
        return self.look(thorough=thorough)

    def look(self, *, thorough: bool = False) -> int:
        """Takes over what the probe has found out; returns how many entries were written."""
        paths = self._probe.paths if self._probe else {}
        planned = plan_peers(self._nodes, self._own, paths) if self._probe else {}
        if self._peers is None or (planned == self._planned and not thorough):
            return 0
        entries = {
            layout.Prefix(cidr.bits, cidr.network).pack(): layout.DsrPeer(
                peer.path.dispatch, int(peer.is_node), peer.path.mtu, peer.node
            ).pack()
            for cidr, peer in planned.items()
        }
        try:
            written = self._peers.apply(entries, thorough=thorough)
        except KernelError as error:
            message = f"nodes may get packets in a way that they do not expect: {error}; it is tried again"
            self._failed, self._planned = (Problem("DSR", message),), {}
            return 0
        self._told = paths
        if planned != self._planned:
            direct = sum(bool(peer["dispatch"] != "snat") for peer in self.rows())
            log("nodes that answer clients by themselves", addresses=direct)
        self._failed, self._planned = (), planned
        return written

    def rows(self) -> list[dict[str, object]]:
        """Each address of another node, with what programs were told of the way there."""
        found: list[dict[str, object]] = []
        for node in self._nodes if self._probe else ():
            for address in first_addresses(node).values() if node.name != self._own else ():
                path = self._told.get(address, UNASKED)
                found.append(
                    {
                        "node": node.name,
                        "address": format_address(address),
                        "dispatch": _WORDS[path.dispatch],
                        "mtu": path.mtu,
                        "why": path.why,
                    }
                )
        return found

    def figures(self) -> DsrFigures:
        """What status and metrics tell of it."""
        return DsrFigures(tuple(self.rows()), self._refused())

    def _refused(self) -> dict[str, int]:
        """How many connections of services in DSR mode were masqueraded, by reason."""
        found: dict[str, int] = {}
        for why in DsrRefusal if self._refusals else ():
            raw = self._refusals.lookup(struct.pack("=I", why)) if self._refusals else None
            if raw and why != DsrRefusal.REFUSAL_MAX:
                name = why.name.removeprefix("REFUSED_").lower()
                found[name] = sum(struct.unpack(f"={len(raw) // 8}Q", raw))
        return found
