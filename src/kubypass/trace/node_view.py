# SPDX-License-Identifier: Apache-2.0
"""A cluster as one of its nodes sees it, for a trace: the node need not exist, only its objects and addresses."""

from __future__ import annotations

from collections.abc import Iterable

from kubypass.datapath.config import datapath_config
from kubypass.kernel.features import Features
from kubypass.kube.snapshot import Snapshot
from kubypass.model.address import Address, family
from kubypass.plan.items import PlanNode
from kubypass.settings.settings import Settings
from kubypass.trace.scratch_maps import Objects


def objects_of(
    snapshot: Snapshot,
    name: str,
    addresses: Iterable[Address],
    settings: Settings,
    features: Features,
) -> Objects:
    """The node has these addresses; the first of each family is its primary one."""
    everywhere = tuple(dict.fromkeys(addresses))
    primary: dict[int, Address] = {}
    for address in everywhere:
        primary.setdefault(family(address), address)
    own = snapshot.nodes.get(name)
    return Objects(
        snapshot.services,
        snapshot.slices,
        PlanNode.of(name, own, primary.values(), everywhere),
        everywhere,
        settings,
        datapath_config(settings, features, primary, own.pod_cidrs if own else ()),
        snapshot.problems,
        snapshot.pods,
    )
