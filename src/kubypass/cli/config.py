# SPDX-License-Identifier: Apache-2.0
"""`kubypass config check FILE`: explains every key of a settings file before an agent reads it."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from kubypass.cli.table import format_label

if TYPE_CHECKING:
    from kubypass.settings.finding import Finding

WRONG = 2


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command. `run` of its namespace is a function from the namespace to an exit code."""
    parser = subparsers.add_parser("config", help="look at settings", description=__doc__)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="explain every key of a settings file")
    check.add_argument("file", metavar="FILE", help="directory of files, YAML block or ConfigMap")
    check.add_argument(
        "--this-node",
        action="store_true",
        help="compare with this machine's devices, ports and memory (by itself where a kubelet or an agent runs)",
    )
    check.add_argument("-o", "--output", choices=("text", "json"), default="text")
    check.set_defaults(run=run_check)


def run_check(arguments: argparse.Namespace) -> int:
    """Prints a line for each key, and for what does not fit this node; returns 2 if a value is wrong, 0 otherwise."""
    from kubypass.agent.node_fit import unfit_here
    from kubypass.settings.files import inspect_settings

    settings, findings = inspect_settings(arguments.file)
    unfit = unfit_here(settings, always=arguments.this_node)
    levels = [*(found.level for found in findings), *(found.level for found in unfit)]
    wrong = levels.count("wrong")
    if arguments.output == "json":
        rows = [
            {"key": f.key, "value": f.value, "level": f.level, "message": f.message}
            for f in findings
        ]
        node = [{"keys": f.keys, "level": f.level, "message": f.message} for f in unfit]
        answer = {"file": arguments.file, "wrong": wrong, "settings": rows, "node": node}
        print(json.dumps(answer, indent=2))
    else:
        for finding in findings:
            print(_line(finding))
        for found in unfit:
            label = format_label(found.level, f"{found.keys[0]} on this node", 11)
            print(f"{label}  {found.message}")
        warnings = sum(level not in {"accepted", "wrong"} for level in levels)
        print(f"{len(findings)} keys, {warnings} to look at, {wrong} wrong")
    return WRONG if wrong else 0


def _line(finding: Finding) -> str:
    value = f"{finding.key}: {json.dumps(finding.value, ensure_ascii=False)}"
    said = format_label(finding.level, value, 11)
    return f"{said}  {finding.message}" if finding.message else said
