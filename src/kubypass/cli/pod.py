# SPDX-License-Identifier: Apache-2.0
"""`kubypass pod list`: each pod of this node, its device, and whether it is connected."""

from __future__ import annotations

import argparse
import json
from typing import Any

from kubypass.api.client import get
from kubypass.cli.options import add_names, add_run, is_asked
from kubypass.cli.table import format_table

_HEAD = ("Pod", "Addresses", "Device", "MTU", "State")
_WIDE = ("Socket LB", "Sources", "UID")
_EPILOG = """examples:
  kubypass pod list -n default          the pods of one namespace
  kubypass pod list my-nginx-1          one pod
  kubypass pod list -o wide             also where connections are translated, and which sources a pod may use"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser("pod", help="list this node's pods with their devices")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser(
        "list", help="each pod, its device, and whether it is connected", description=__doc__,
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_names(listing, "this pod")
    add_run(listing)
    listing.add_argument("-o", "--output", choices=("text", "wide", "json"), default="text")
    listing.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    _, body = get(arguments.run_directory / "agent.sock", "/pods")
    rows = [row for row in json.loads(body)["pods"] if is_asked(row, arguments)]
    if arguments.output == "json":
        print(json.dumps({"pods": rows}, indent=1))
    else:
        print(render(rows, wide=arguments.output == "wide"), end="")
    return 0


def render(rows: list[dict[str, Any]], *, wide: bool = False) -> str:
    """One line for each pod."""
    table: list[tuple[str, ...]] = [(*_HEAD, *(_WIDE if wide else ()))]
    for row in rows:
        state = "connected" if row["connected"] else f"not connected: {row['reason']}"
        cells = (
            f"{row['namespace']}/{row['name']}",
            " ".join(row["addresses"]) or "-",
            row["device"],
            str(row["mtu"] or "-"),
            state,
        )
        more = (row["socket_lb"], row["sources"], row["uid"] or "-") if wide else ()
        table.append((*cells, *more))
    return format_table(table) + "\n"
