# SPDX-License-Identifier: Apache-2.0
"""Whether settings fit the node: what `config check` and `install` say there, and what an agent has as problems."""

from __future__ import annotations

from kubypass.datapath.map_memory import map_memory
from kubypass.errors import ConfigError
from kubypass.model.problem import Problem
from kubypass.node.bypassed_rules import bypassed_rules
from kubypass.node.facts import NodeState
from kubypass.node.preflight import NodeFacts, families_of, is_node, preflight, read_facts
from kubypass.settings.contradictions import Contradiction
from kubypass.settings.settings import Settings


def unfit_here(settings: Settings, *, always: bool = False) -> list[Contradiction]:
    """What does not fit the machine that we are on; nothing where that is no node, unless `always`."""
    if not (always or is_node()):
        return []
    return list(preflight(settings, read_facts(map_memory(settings))))


def unfit_problems(settings: Settings, node: NodeState, memory_bytes: int) -> tuple[Problem, ...]:
    """A problem for each setting that does not fit an agent's node."""
    found = _preflight(settings, node, memory_bytes)
    return tuple(Problem(f"Setting {one.keys[0]}", one.message) for one in found)


def refuse_unfit(settings: Settings, node: NodeState, memory_bytes: int) -> None:
    """Raises ConfigError where the node has too little for these settings."""
    for one in _preflight(settings, node, memory_bytes):
        if one.level == "wrong":
            raise ConfigError(f"{' and '.join(one.keys)}: {one.message}")


def _preflight(settings: Settings, node: NodeState, memory_bytes: int) -> list[Contradiction]:
    families, devices = families_of(node.addresses), frozenset(node.links)
    facts = NodeFacts(devices, families, node.ephemeral, memory_bytes, map_memory(settings))
    return list(preflight(settings, facts))


def remarks_here(settings: Settings) -> list[str]:
    """What `install` says of the machine that it runs on, where that is a node."""
    if not is_node():
        return []
    unfit = [f"{found.keys[0]}: {found.message}" for found in unfit_here(settings)]
    bypassed = bypassed_rules(settings)
    return [f"this node: {text}" for text in (*unfit, *([bypassed] if bypassed else ()))]
