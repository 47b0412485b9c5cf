# SPDX-License-Identifier: Apache-2.0
"""`kubypass metrics`: the agent's counters, as Prometheus text."""

from __future__ import annotations

import argparse

from kubypass.api.client import get
from kubypass.cli.options import add_run


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "metrics", help="counters, as Prometheus text", description=__doc__
    )
    add_run(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    _, body = get(arguments.run_directory / "agent.sock", "/metrics")
    print(body.decode(), end="")
    return 0
