# SPDX-License-Identifier: Apache-2.0
"""`kubypass status`: what is effective, and why where that is not what was asked for."""

from __future__ import annotations

import argparse
import json
from typing import Any

from kubypass.api.client import get
from kubypass.cli.options import add_output, add_run
from kubypass.cli.table import format_label, format_row

_WIDTH = 25


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser("status", help="what is effective, and why", description=__doc__)
    add_run(parser)
    add_output(parser)
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="features, writes and timings as well"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    _, body = get(arguments.run_directory / "agent.sock", "/status")
    if arguments.output == "json":
        print(json.dumps(json.loads(body), indent=1))
    else:
        print(render(json.loads(body), verbose=arguments.verbose), end="")
    return 0


def _line(name: str, text: object) -> str:
    return format_label(f"{name}:", text, _WIDTH)


def _option(row: dict[str, Any]) -> str:
    """What is effective, and why where that is not what was asked for."""
    text = str(row["effective"])
    if row["details"]:
        text += f"   [{', '.join(row['details'])}]"
    if row["effective"] == row["wanted"]:
        return text
    return f"{text}   (wanted {row['wanted']}: {row['why']})"


def _list(name: str, rows: list[str]) -> list[str]:
    return [_line(name, len(rows) or "none"), *(f"  {row}" for row in rows)]


def render(status: dict[str, Any], *, verbose: bool) -> str:
    """The text of the status."""
    lines = [_line("Kubernetes", status["kubernetes"]["text"])]
    options = [row for row in status["options"] if not row["verbose"]]
    lines += [_line(row["title"], _option(row)) for row in options]
    lines += kernel_lines(status["kernel"])
    lines += _counts(status)
    lines += _findings(status)
    if verbose:
        lines += _details(status)
    return "\n".join(lines) + "\n"


def kernel_lines(kernel: dict[str, Any]) -> list[str]:
    """The kernel's release, and a line for each feature that it does not have."""
    rows = [
        f"{one['feature']}: missing (Linux {one['since']})   [{one['purpose']}]"
        for one in kernel["missing"]
    ]
    found = f"missing features: {len(rows)}" if rows else "missing features: none"
    return [_line("Kernel", f"{kernel['release']}   [{found}]"), *(f"  {row}" for row in rows)]


def _counts(status: dict[str, Any]) -> list[str]:
    """What the agent holds, and who it is."""
    held = f"{status['services']} ({status['frontends']} frontends, {status['backends']} backends)"
    pools = [f"{p['used']}/{p['capacity']} allocated from {p['cidr']}" for p in status["ipam"]]
    agent = status["agent"]
    waiting = "waiting for the first complete sync"
    state = "Ok" if agent["healthy"] else "; ".join(agent.get("unhealthy", ())) or waiting
    maps = [format_row((m["name"], m["max_entries"]), (15, -8)) for m in status["bpf_maps"]]
    snat = status["snat"]
    return [
        _line("Services", held),
        _line("Pods", status["pods"]),
        _line("IPAM", ", ".join(pools) or "pods get their addresses from somebody else"),
        _line("Agent", f"{state}   {agent['version']} on {agent['node']} (pid {agent['pid']})"),
        *_list("BPF Maps", maps),
        _line("SNAT", f"source ports {snat['ports']} ({snat['count']})"),
        *(f"  {format_label(f['backend'], _failures(f), 39)}" for f in snat["failures"]),
    ]


def _failures(failure: dict[str, Any]) -> str:
    return f"none free {failure['connections']} times"


def _findings(status: dict[str, Any]) -> list[str]:
    """What an operator should look at."""
    problems = [f"{p['subject']}: {p['message']}" for p in status["problems"]]
    drops = [
        format_row((d["hook"], d["reason"], d["packets"]), (13, 23, 0)) for d in status["drops"]
    ]
    lines = _list("Problems", problems) + _list("Drops", drops) + _list("Notes", status["notes"])
    return lines + (_list("Upgrade", status["upgrade"]) if status["upgrade"] else [])


def _details(status: dict[str, Any]) -> list[str]:
    """What `--verbose` adds."""
    rows = [row for row in status["options"] if row["verbose"]]
    details = [f"  {format_label(row['title'] + ':', _option(row), 23)}" for row in rows]
    lines = ["KubeProxyReplacement Details:", *details]
    for name in ("features", "writes", "timings", "memory"):
        found = [format_label(key, value, 17) for key, value in status[name].items()]
        lines += _list(name.capitalize(), found)
    return [*lines, _line("Layout", status["layout"])]
