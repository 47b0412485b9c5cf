# SPDX-License-Identifier: Apache-2.0
"""An option as the status shows it: what is wanted, what is effective, and why the two differ. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kubypass.agent.report.figures import Figures
from kubypass.kernel.features import Features
from kubypass.node.facts import NodeState
from kubypass.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the rows depend on."""

    settings: Settings
    features: Features
    node: NodeState
    figures: Figures


@dataclass(frozen=True, slots=True)
class State:
    """An option on this node."""

    wanted: str
    effective: str
    why: str = ""
    """Why the two differ, where they do."""
    details: tuple[str, ...] = ()
    """What `kubypass status` shows in brackets."""
    fields: Mapping[str, object] = field(default_factory=dict)
    """The same details by name, for `-o json`."""


@dataclass(frozen=True, slots=True)
class Option:
    """A row of the table."""

    title: str
    state: Callable[[Inputs], State]
    says: str
    """What the line says, for the documentation."""
    keys: tuple[str, ...] = ()
    """The settings that ask for it."""
    reasons: tuple[str, ...] = ()
    """Every `why` that the row may give."""
    field: str = ""
    """Its field in the JSON of the status; empty: it is in the list `options` only."""
    verbose: bool = False
    """Whether it is one of the details of KubeProxyReplacement, which need `--verbose`."""

    def row(self, inputs: Inputs) -> dict[str, object]:
        """The row as the API sends it."""
        state = self.state(inputs)
        differs = state.wanted != state.effective
        return {
            "title": self.title,
            "wanted": state.wanted,
            "effective": state.effective,
            "why": state.why if differs else "",
            "details": list(state.details),
            "verbose": self.verbose,
            **state.fields,
        }
