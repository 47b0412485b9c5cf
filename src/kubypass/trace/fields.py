# SPDX-License-Identifier: Apache-2.0
"""Answers as fields for JSON: `kubypass trace -o json` and `--batch`."""

from __future__ import annotations

from dataclasses import asdict

from kubypass.model.address import format_address_port
from kubypass.trace.explanation import Explanation
from kubypass.trace.run import Run
from kubypass.trace.traced_node import TracedNode


def verdict_fields(found: Run) -> dict[str, object]:
    """What the kernel decided."""
    program = found.decided or (found.outcomes[-1] if found.outcomes else None)
    return {
        "verdict": found.answer,
        "backends": sorted(format_address_port(*backend) for backend in found.candidates),
        "backend": format_address_port(*found.backend) if found.backend else None,
        "masquerade": found.masquerade,
        "program": program.program if program else None,
    }


def explanation_fields(explanation: Explanation, node: TracedNode) -> dict[str, object]:
    """The verdict, and everything that explains it."""
    service = explanation.service
    return {
        **verdict_fields(explanation.run),
        "node": node.node,
        "reason": explanation.reason,
        "change": explanation.change,
        "steps": [asdict(step) for step in explanation.steps],
        "service": asdict(service) if service else None,
        "problems": node.problems,
    }
