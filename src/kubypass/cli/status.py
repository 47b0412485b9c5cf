# SPDX-License-Identifier: Apache-2.0
"""`kubypass status`: what is effective, and why where that is not what was asked for."""

from __future__ import annotations

import argparse
import json
from typing import Any

from kubypass.api.client import NotRunning, get
from kubypass.cli.options import add_bpffs, add_output, add_run
from kubypass.cli.status_lines import drop_lines, format_line, format_list
from kubypass.cli.table import format_label, format_row


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser("status", help="what is effective, and why", description=__doc__)
    add_run(parser)
    add_bpffs(parser)
    add_output(parser)
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="features, writes and timings as well"
    )
    parser.add_argument(
        "--check", action="store_true",
        help="exit with 1 if there is a problem, if the API is away, or before the first sync is complete; notes, "
        "drops and options that this kernel lacks are no problems",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    try:
        _, body = get(arguments.run_directory / "agent.sock", "/status")
    except NotRunning as error:
        return _run_without_agent(arguments, error)
    status = json.loads(body)
    if arguments.output == "json":
        print(json.dumps(status, indent=1))
    else:
        print(render(status, verbose=arguments.verbose), end="")
    return int(arguments.check and not is_well(status))


def _run_without_agent(arguments: argparse.Namespace, error: NotRunning) -> int:
    """Shows what the kernel holds while no agent answers; always returns 1."""
    from kubypass.cli.pinned_status import pinned_status, render_pinned
    from kubypass.errors import KernelError

    try:
        status = pinned_status(arguments.bpffs, str(error))
    except KernelError:
        raise error from None
    if arguments.output == "json":
        print(json.dumps(status, indent=1))
    else:
        print(render_pinned(status), end="")
    return 1


def is_well(status: dict[str, Any]) -> bool:
    """Whether services are served and nothing is wrong: what `--check` answers."""
    served: bool = status["agent"]["healthy"] and status["kubernetes"]["connected"] is not False
    return served and not status["problems"]


def _option(row: dict[str, Any]) -> str:
    """What is effective, and why where that is not what was asked for."""
    text = str(row["effective"])
    if row["details"]:
        text += f"   [{', '.join(row['details'])}]"
    if row["effective"] == row["wanted"]:
        return text
    return f"{text}   (wanted {row['wanted']}: {row['why']})"


def render(status: dict[str, Any], *, verbose: bool) -> str:
    """The text of the status."""
    lines = [format_line("Kubernetes", status["kubernetes"]["text"])]
    options = [row for row in status["options"] if not row["verbose"]]
    lines += [format_line(row["title"], _option(row)) for row in options]
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
    return [
        format_line("Kernel", f"{kernel['release']}   [{found}]"),
        *(f"  {row}" for row in rows),
    ]


def _counts(status: dict[str, Any]) -> list[str]:
    """What the agent holds, and who it is."""
    held = f"{status['services']} ({status['frontends']} frontends, {status['backends']} backends)"
    pools = [f"{p['used']}/{p['capacity']} allocated from {p['cidr']}" for p in status["ipam"]]
    agent = status["agent"]
    waiting = "waiting for the first complete sync"
    state = "Ok" if agent["healthy"] else "; ".join(agent.get("unhealthy", ())) or waiting
    maps = [_map(one) for one in status["bpf_maps"]]
    snat = status["snat"]
    return [
        format_line("Services", held),
        format_line("Pods", status["pods"]),
        format_line("IPAM", ", ".join(pools) or "pods get their addresses from somebody else"),
        format_line(
            "Agent", f"{state}   {agent['version']} on {agent['node']} (pid {agent['pid']})"
        ),
        *format_list("BPF Maps", maps),
        format_line("SNAT", f"source ports {snat['ports']} ({snat['count']})"),
        *(f"  {format_label(f['backend'], _failures(f), 39)}" for f in snat["failures"]),
    ]


def _map(one: dict[str, Any]) -> str:
    used = one.get("entries")
    share = "" if used is None else f"{used} in use ({100 * used // one['max_entries']} %)"
    return format_row((one["name"], one["max_entries"], "   ", share), (16, -8, 3, 0))


def _failures(failure: dict[str, Any]) -> str:
    return f"none free {failure['connections']} times"


def _findings(status: dict[str, Any]) -> list[str]:
    """What an operator should look at."""
    problems = [_problem(group) for group in status["problem_groups"]]
    found = len(status["problems"])
    lines = [format_line("Problems", found or "none"), *(f"  {problem}" for problem in problems)]
    lines += format_list("Drops", drop_lines(status)) + format_list("Notes", status["notes"])
    return lines + (format_list("Upgrade", status["upgrade"]) if status["upgrade"] else [])


def _problem(group: dict[str, Any]) -> str:
    """One line for all problems of a kind: how many, the first of their objects, and what the first one says."""
    subjects, count = group["subjects"], group["count"]
    if count == 1:
        return f"{subjects[0]}: {group['message']}"
    more = ", …" if count > len(subjects) else ""
    return f"{count} alike: {', '.join(subjects)}{more}: {group['message']}"


def _details(status: dict[str, Any]) -> list[str]:
    """What `--verbose` adds."""
    rows = [row for row in status["options"] if row["verbose"]]
    details = [f"  {format_label(row['title'] + ':', _option(row), 23)}" for row in rows]
    lines = ["KubeProxyReplacement Details:", *details]
    for name in ("features", "writes", "timings", "memory"):
        found = [format_label(key, value, 17) for key, value in status[name].items()]
        lines += format_list(name.capitalize(), found)
    return [*lines, format_line("Layout", status["layout"])]
