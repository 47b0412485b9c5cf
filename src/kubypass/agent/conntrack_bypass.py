# SPDX-License-Identifier: Apache-2.0
"""Keeps netfilter from tracking connections of pods, where the settings ask for it and nobody's rules need it."""

from __future__ import annotations

from collections.abc import Iterable

from kubypass.agent.log import log
from kubypass.errors import KernelError
from kubypass.kernel import nf_tables
from kubypass.kernel.netfilter_rules import rules
from kubypass.kernel.nf_tables import Network
from kubypass.model.cidr import Cidr
from kubypass.model.node import Node
from kubypass.model.problem import Problem
from kubypass.node.no_conntrack import (
    conflicts,
    install,
    is_intact,
    networks_by_family,
    remove_no_conntrack,
)
from kubypass.node.record import Kind, Record
from kubypass.plan.masquerade import pod_networks
from kubypass.settings.settings import Settings

KEY = "install-no-conntrack-iptables-rules"
BPF_ROUTING = "host routing is BPF: packets of pods do not pass netfilter, which tracks none of their connections"
NO_NETWORK = "no network of pods is known; set cluster-cidr, or give the nodes podCIDRs"


class ConntrackBypass:
    """The rules of ours, and why there are none. The loop's thread calls `sync` and `look`."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._known: tuple[object, ...] = ()
        """What the last decision was made of."""
        self._settings, self._cidrs = Settings(), frozenset[Cidr]()
        self.effective = ""
        """By which means connection tracking skips pods: nftables or iptables; empty where it does not."""
        self.why = ""
        self.problems: tuple[Problem, ...] = ()

    @property
    def state(self) -> tuple[str, str]:
        """By which means connection tracking skips pods, and why it does not."""
        return self.effective, self.why

    def sync(self, settings: Settings, nodes: Iterable[Node], *, thorough: bool) -> None:
        """Brings the rules up to date; without `thorough` only where something they depend on has changed."""
        wanted = settings.routing.no_conntrack
        self._settings = settings
        self._cidrs = frozenset(pod_networks(settings, nodes) if wanted else ())
        self._update(thorough=thorough)

    def look(self) -> None:
        """Looks whether rules have changed, of others or ours, which costs one question to the kernel."""
        self._update(thorough=False)

    def _update(self, *, thorough: bool) -> None:
        settings = self._settings
        if not settings.routing.no_conntrack and not self._recorded:
            self._set("", "")
            return
        known = (settings.routing, self._cidrs, nf_tables.generation())
        if known == self._known and not thorough:
            return
        try:
            self._sync(networks_by_family(self._cidrs))
            self._known = (settings.routing, self._cidrs, nf_tables.generation())
        except (KernelError, OSError) as error:
            self._known = ()
            self._set("", f"{error}", Problem(f"Setting {KEY}", f"{error}; it is tried again"))

    @property
    def _recorded(self) -> bool:
        return any(change.kind == Kind.NO_CONNTRACK for change in self._record.changes)

    def _sync(self, networks: dict[int, list[Network]]) -> None:
        routing = self._settings.routing
        if not routing.no_conntrack:
            self._remove("")
        elif not routing.legacy_host:
            self._remove(BPF_ROUTING)
        elif not any(networks.values()):
            self._remove(NO_NETWORK)
        elif found := conflicts(rules(), networks):
            self._remove(found, Problem(f"Setting {KEY}", f"stays off: {found}"))
        else:
            means = self.effective
            changed = not means or self._known[:2] != (routing, self._cidrs)
            if changed or not is_intact(networks):
                means = install(self._record, networks)
                log("connections of pods are not tracked", by=means)
            self._set(means, "")

    def _remove(self, why: str, *problems: Problem) -> None:
        for line in self._record.undo({Kind.NO_CONNTRACK: remove_no_conntrack}):
            log("connections of pods are tracked again", done=line, why=why)
        self._set("", why, *problems)

    def _set(self, effective: str, why: str, *problems: Problem) -> None:
        self.effective, self.why, self.problems = effective, why, problems
