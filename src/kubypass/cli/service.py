# SPDX-License-Identifier: Apache-2.0
"""`kubypass service list`: every frontend with its backends, as the kernel's maps hold them, and whose it is.

On a terminal, the last column names the service. Elsewhere the backend is the last one, as scripts know it; `-o wide`
and `-o json` always have the name.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from kubypass.api.client import NotRunning, get
from kubypass.cli.options import add_bpffs, add_names, add_run, is_asked
from kubypass.cli.table import format_table
from kubypass.errors import KernelError, KubypassError

_TYPES = ("ClusterIP", "NodePort", "ExternalIPs", "LoadBalancer", "HostPort")
_HEAD = ("ID", "Frontend", "Service Type", "Backend")
_NAMES = ("Service",)
_WIDE = ("Service", "Port Name", "Policy", "Affinity", "Source Ranges", "Algorithm", "Forwarding")
_EPILOG = """examples:
  kubypass service list -n default my-nginx        the frontends of one service
  kubypass service list --port 30080 --type nodeport
  kubypass service list -o wide                    with port names, policies, algorithm and forwarding"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser("service", help="list frontends with their backends")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser(
        "list", help="every frontend with its backends", description=__doc__,
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_names(listing, "of this service (or pod with host ports)")
    listing.add_argument("--port", type=int, help="frontends with this port only")
    listing.add_argument(
        "--type",
        type=_type,
        metavar="TYPE",
        help=f"frontends of this type only: {', '.join(_TYPES)}",
    )
    add_run(listing)
    add_bpffs(listing)
    listing.add_argument("-o", "--output", choices=("text", "wide", "json"), default="text")
    listing.set_defaults(run=_run)


def _type(text: str) -> str:
    found = next((known for known in _TYPES if known.lower() == text.lower()), None)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text}: expected one of {', '.join(_TYPES)}")
    return found


def _run(arguments: argparse.Namespace) -> int:
    rows = [row for row in _rows(arguments) if _is_asked(row, arguments)]
    if arguments.output == "json":
        print(json.dumps({"services": rows}, indent=1))
    else:
        wide = arguments.output == "wide"
        print(render(rows, named=sys.stdout.isatty(), wide=wide), end="")
    return 0


def _rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """What the agent says; without its answer, what the maps hold, which know no names."""
    try:
        _, body = get(arguments.run_directory / "agent.sock", "/services")
        rows: list[dict[str, Any]] = json.loads(body)["services"]
    except NotRunning as error:
        if arguments.name or arguments.namespace:
            raise KubypassError(
                f"{error}; only the agent knows names", "leave out the name and the namespace"
            ) from None
        from kubypass.datapath.service_list import pinned_services

        try:
            rows = pinned_services(arguments.bpffs)
        except KernelError:
            raise error from None
        print(f"kubypass: {error}; this is what the kernel holds", file=sys.stderr)
    return rows


def _is_asked(row: dict[str, Any], arguments: argparse.Namespace) -> bool:
    address_port = row["frontend"].partition("/")[0]
    return (
        is_asked(row, arguments)
        and (arguments.port is None or int(address_port.rpartition(":")[2]) == arguments.port)
        and (arguments.type is None or row["type"] == arguments.type)
    )


def render(rows: list[dict[str, Any]], *, named: bool = False, wide: bool = False) -> str:
    """One line for each backend; the frontend, and whose it is, stand with its first backend."""
    more = _WIDE if wide else _NAMES if named else ()
    table: list[tuple[str, ...]] = [(*_HEAD, *more)]
    for row in rows:
        backends = [
            f"{number} => {backend['address']} ({backend['state']}{_weight(backend)})"
            for number, backend in enumerate(row["backends"], 1)
        ]
        head = (str(row["id"]), row["frontend"], row["type"])
        tail = (_owner(row), *_details(row))[: len(more)]
        table.append((*head, backends[0] if backends else "", *tail))
        table += [("", "", "", backend, *("" for _ in tail)) for backend in backends[1:]]
    return format_table(table) + "\n"


def _owner(row: dict[str, Any]) -> str:
    if "name" not in row:
        return "-"
    pod = "pod " if row["kind"] == "Pod" else ""
    return f"{pod}{row['namespace']}/{row['name']}"


def _details(row: dict[str, Any]) -> tuple[str, ...]:
    affinity = f"{row['affinity_s']} s" if row["affinity_s"] else "none"
    cells = f" ({row['table_cells']})" if row.get("table_cells") else ""
    algorithm = f"{row.get('algorithm', 'random')}{cells}"
    return (
        row.get("port_name") or "-", row["policy"], affinity, row["source_ranges"], algorithm,
        row["forwarding"],
    )  # fmt: skip


def _weight(backend: dict[str, Any]) -> str:
    """The weight, where it is not the usual one."""
    weight = backend.get("weight", 1)
    return f", weight {weight}" if weight != 1 else ""
