# SPDX-License-Identifier: Apache-2.0
"""A cluster as seen from one of its nodes. The node need not exist: its objects and its addresses are enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kubypass.datapath import layout
from kubypass.datapath.config import datapath_config
from kubypass.kernel.features import Features
from kubypass.kube.snapshot import Snapshot
from kubypass.model.address import Address, Family, family
from kubypass.model.cidr import Cidr
from kubypass.model.endpoint import EndpointSlice
from kubypass.model.host_port import HostPortPod
from kubypass.model.problem import Problem
from kubypass.model.service import Service, ServiceKey
from kubypass.model.verdict import InsideReason
from kubypass.plan.items import PlanNode
from kubypass.plan.masquerade import masqueraded_families, plan_inside
from kubypass.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class NodeView:
    """Everything that planning for the node depends on."""

    services: Mapping[ServiceKey, Service]
    slices: Mapping[ServiceKey, tuple[EndpointSlice, ...]]
    node: PlanNode
    addresses: tuple[Address, ...]
    """All addresses of the node."""
    settings: Settings
    config: layout.Config
    """The constants of the programs."""
    problems: tuple[Problem, ...] = ()
    pods: Mapping[ServiceKey, HostPortPod] = field(default_factory=dict)
    """Pods with host ports."""
    primary: Mapping[int, Address] = field(default_factory=dict)
    """The address of each family that translated packets are sent from."""
    inside: Mapping[Cidr, InsideReason] = field(default_factory=dict)
    """The networks that pods reach with their own addresses."""
    masqueraded: tuple[Family, ...] = ()
    """The families in which pods are masqueraded elsewhere."""


def view_from_node(
    snapshot: Snapshot,
    name: str,
    addresses: Iterable[Address],
    settings: Settings,
    features: Features,
) -> NodeView:
    """Looks at a snapshot from the node `name` with these addresses; the first of each family is its primary one."""
    everywhere = tuple(dict.fromkeys(addresses))
    primary: dict[int, Address] = {}
    for address in everywhere:
        primary.setdefault(family(address), address)
    own = snapshot.nodes.get(name)
    inside = plan_inside(settings, snapshot.nodes.values(), None)
    return NodeView(
        snapshot.services,
        snapshot.slices,
        PlanNode.of(name, own, primary.values(), everywhere),
        everywhere,
        settings,
        datapath_config(settings, features, own.pod_cidrs if own else ()),
        snapshot.problems,
        snapshot.pods,
        primary,
        inside,
        masqueraded_families(settings, inside, primary)[0],
    )
