# SPDX-License-Identifier: Apache-2.0
"""`kubypass status` while no agent answers: what the kernel goes on with, read from the pinned maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kubypass.cli.status_lines import drop_lines, format_line, format_list
from kubypass.datapath import layout
from kubypass.datapath.counters import drop_rows
from kubypass.datapath.pinned_state import read_pinned_state

_UNKNOWN = "options, pods, Kubernetes and other problems: only the agent knows them"


def pinned_status(bpffs: Path, why: str) -> dict[str, Any]:
    """The fields that the maps know, under the names that they have in the agent's status; KernelError without maps."""
    state = read_pinned_state(bpffs)
    flows = [
        {"name": name, "max_entries": size, "entries": entries}
        for name, (entries, size) in state.flows.items()
    ]
    return {
        "agent": {"answers": False, "healthy": False, "why": why},
        "service_ports": state.service_ports,
        "frontends": state.frontends,
        "backends": state.backends,
        "bpf_maps": flows,
        "links": state.links,
        "drops": drop_rows(state.counts),
        "problems": [{"subject": "Agent", "message": why}],
        "layout": layout.LAYOUT_HASH,
    }


def render_pinned(status: dict[str, Any]) -> str:
    """The text of such a status."""
    flows = [
        f"{one['entries']} of {one['max_entries']} ({one['name']})" for one in status["bpf_maps"]
    ]
    held = f"{status['frontends']} frontends, {status['backends']} backends"
    lines = [
        format_line("Agent", "does not answer; this is what the kernel holds"),
        format_line("Services", f"{status['service_ports']} service ports ({held})"),
        format_line("Flows", ", ".join(flows)),
        format_line("Programs", f"{status['links']} attached by pinned links"),
        *format_list("Problems", [f"{p['subject']}: {p['message']}" for p in status["problems"]]),
        *format_list("Drops", drop_lines(status)),
        format_line("Unknown", _UNKNOWN),
    ]
    return "\n".join(lines) + "\n"
