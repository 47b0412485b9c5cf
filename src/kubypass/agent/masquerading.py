# SPDX-License-Identifier: Apache-2.0
"""Keeps the maps that tell programs which packets of pods are masqueraded, and with which addresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from kubypass.agent.log import log
from kubypass.datapath.local_addresses import inside_entries, prefix_key, uplink_entry
from kubypass.datapath.synced_map import SyncedMap
from kubypass.errors import KernelError
from kubypass.kernel.bpf import Map
from kubypass.model.address import Address, Family, family, format_address
from kubypass.model.cidr import Cidr
from kubypass.model.node import Node
from kubypass.model.problem import Problem
from kubypass.model.verdict import InsideReason
from kubypass.node.agent_list_file import AgentListFile
from kubypass.node.facts import NodeState
from kubypass.plan.masquerade import masqueraded_families, plan_inside, plan_without
from kubypass.settings.settings import Settings


class Masquerading:
    """Follows nodes, uplinks and ip-masq-agent's configuration."""

    def __init__(
        self, maps: Mapping[str, Map], settings: Settings, agent_list: AgentListFile | None
    ) -> None:
        self._settings = settings
        self._agent_list = agent_list
        self._inside = SyncedMap(maps["inside"])
        self._uplinks = SyncedMap(maps["uplinks"])
        self._failed: tuple[Problem, ...] = ()
        self._pods: frozenset[Address] = frozenset()
        self._strangers: tuple[Problem, ...] = ()
        self._planned_of: tuple[object, ...] = ()
        """What `inside` was planned of: for 5,000 nodes that takes some 50 ms, and pods come and go more often."""
        self._entries: dict[bytes, bytes] = {}
        self.families: tuple[Family, ...] = ()
        """The families in which pods are masqueraded."""
        self.why = ""
        """Why these are not all that are wanted."""
        self.inside: dict[Cidr, InsideReason] = {}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with ip-masq-agent's configuration, or with the maps."""
        of_list = self._agent_list.problems if self._agent_list else ()
        return (*of_list, *self._failed, *self._strangers)

    def look(self) -> bool:
        """Whether ip-masq-agent's configuration changed, so that `sync` is due."""
        changed = self._agent_list is not None and self._agent_list.look()
        if changed:
            log("ip-masq-agent's configuration changed")
        return changed

    def sync(
        self,
        node: NodeState,
        nodes: Iterable[Node],
        pods: frozenset[Address],
        *,
        thorough: bool = True,
    ) -> int:
        """Brings the maps up to date; returns how many entries were written. `pods` are the addresses of this node's.

        What is inside is known before an uplink masquerades, so that nothing of the cluster leaves masqueraded.
        """
        self.look()
        planned = self._plan(tuple(nodes), node.primary)
        entries: dict[bytes, bytes] = {}
        for link in node.uplinks if self.families else ():
            sources: dict[int, Address] = {
                v: a for v, a in node.sources(link).items() if v in self.families
            }
            entries |= uplink_entry(link.index, sources)
        try:
            written = 0
            if planned or thorough:
                written += self._inside.apply(self._entries, thorough=thorough)
            written += self._uplinks.apply(entries, thorough=thorough)
        except KernelError as error:
            message = (
                f"pods may reach the outside with their own addresses: {error}; it is tried again"
            )
            self._failed, self._planned_of = (Problem("Masquerading", message),), ()
            return 0
        self._failed = ()
        if planned or pods != self._pods:
            self._pods, self._strangers = pods, self._find_strangers(pods)
        return written

    def _find_strangers(self, pods: frozenset[Address]) -> tuple[Problem, ...]:
        """A problem where pods of this node are outside: those of other nodes reach them as they do the outside."""
        found = sorted(
            address
            for address in pods
            if family(address) in self.families and not self._inside.lookup(prefix_key(address))
        )
        if not found:
            return ()
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        message = (
            f"pods of this node are in no known network of pods: {format_address(found[0])}{more}; pods of other "
            "nodes reach them masqueraded; name their network in ipv4-native-routing-cidr or "
            "ipv6-native-routing-cidr"
        )
        return (Problem("Masquerading", message),)

    def _plan(self, nodes: tuple[Node, ...], primary: Mapping[int, Address]) -> bool:
        """Plans what is inside, if it was planned of something else before; returns whether it did."""
        content = self._agent_list.content if self._agent_list else None
        if self._planned_of == (content, nodes, primary.keys()):
            return False
        self._planned_of = (content, nodes, set(primary))
        self.inside = plan_inside(self._settings, nodes, content)
        self.families, self.why = masqueraded_families(self._settings, self.inside, primary)
        without = plan_without(self._settings, self.families)
        self._entries = inside_entries({**without, **self.inside})
        return True


def open_agent_list(settings: Settings) -> AgentListFile | None:
    """ip-masq-agent's configuration, where the settings ask for it."""
    if not settings.masquerade.with_agent_list:
        return None
    return AgentListFile(Path(settings.masquerade.agent_list))
