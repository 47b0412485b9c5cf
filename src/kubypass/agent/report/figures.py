# SPDX-License-Identifier: Apache-2.0
"""What a running agent counts. The defaults are the figures of an agent that waits for its first sync."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kubypass.agent.report.map_fill import Fill
from kubypass.model.address import Family
from kubypass.model.problem import Problem
from kubypass.model.protocol import Protocol
from kubypass.node.xdp_fit import AcceleratedDevice


@dataclass(frozen=True, slots=True)
class DsrFigures:
    """How DSR goes."""

    peers: tuple[dict[str, object], ...] = ()
    """The other nodes, and how it reaches them."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Connections of services in DSR mode that were masqueraded, by reason."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one moment."""

    started: bool = False
    services: int = 0
    frontends: int = 0
    backends: int = 0
    maglev: int = 0
    """Service ports whose external frontends select by Maglev."""
    without_table: int = 0
    """Service ports for whose Maglev tables the map has no room."""
    pods: int = 0
    """Pods of this node with our programs."""
    excluded_pods: int = 0
    """Pods whose sockets are excluded from socket load balancing."""
    foreign_source_pods: int = 0
    """Pods that may send from addresses that are not theirs."""
    masqueraded: tuple[Family, ...] = ()
    """The families in which pods are masqueraded."""
    not_masqueraded: str = ""
    """Why these are not all that are wanted."""
    inside: int = 0
    """The networks that pods reach with their own addresses."""
    lost_sources: int = 0
    """Connections ended since the start because the node lost the address that they were masqueraded with."""
    dsr: DsrFigures = field(default_factory=DsrFigures)
    legacy_host: bool = False
    """Whether the programs leave it to the node's stack to forward packets."""
    conntrack_bypass: tuple[str, str] = ("", "")
    """By which means connection tracking skips packets of pods, empty where it does not; and why it does not."""
    accelerated: tuple[AcceleratedDevice, ...] = ()
    """How XDP handles the packets of each uplink."""
    flows: int = 0
    """Flows that have not expired, as the last count found them."""
    fills: tuple[Fill, ...] = ()
    """How full the maps are."""
    flows_expired: int = 0
    """Expired flows removed since the start."""
    links_written: int = 0
    sockets_closed: Mapping[Protocol, int] = field(default_factory=dict)
    """Sockets closed because their backend was gone, for each protocol whose sockets are closed."""
    pools: tuple[dict[str, object], ...] = ()
    """This node's pod networks."""
    repairs: int = 0
    """How often something that others had undone was put back since the start."""
    problems: tuple[Problem, ...] = ()
    upgrade: tuple[str, ...] = ()
    """What became of the maps of another version."""
