# SPDX-License-Identifier: Apache-2.0
"""`kubypass service list`: every frontend with its backends, as the kernel's maps hold them."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from kubypass.api.client import NotRunning, get
from kubypass.cli.options import add_bpffs, add_output, add_run
from kubypass.cli.table import format_table
from kubypass.errors import KernelError


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser("service", help="list frontends with their backends")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser(
        "list", help="every frontend with its backends", description=__doc__
    )
    add_run(listing)
    add_bpffs(listing)
    add_output(listing)
    listing.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    try:
        _, body = get(arguments.run_directory / "agent.sock", "/services")
        rows = json.loads(body)["services"]
    except NotRunning as error:
        from kubypass.datapath.service_list import pinned_services

        try:
            rows = pinned_services(arguments.bpffs)
        except KernelError:
            raise error from None
        print(f"kubypass: {error}; this is what the kernel holds", file=sys.stderr)
    if arguments.output == "json":
        print(json.dumps({"services": rows}, indent=1))
    else:
        print(render(rows), end="")
    return 0


def render(rows: list[dict[str, Any]]) -> str:
    """One line for each backend; the frontend stands before its first backend."""
    table = [("ID", "Frontend", "Service Type", "Backend")]
    for row in rows:
        backends = [
            f"{number} => {backend['address']} ({backend['state']})"
            for number, backend in enumerate(row["backends"], 1)
        ]
        head = (str(row["id"]), row["frontend"], row["type"])
        table.append((*head, backends[0] if backends else ""))
        table += [("", "", "", backend) for backend in backends[1:]]
    return format_table(table) + "\n"
