# SPDX-License-Identifier: Apache-2.0
"""`kubypass cleanup`: removes our programs, pins, routes and sysctl changes from this node. It can be repeated."""

from __future__ import annotations

import argparse

from kubypass.cli.options import add_bpffs, add_run


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "cleanup", help="take everything of ours off this node", description=__doc__
    )
    add_run(parser)
    add_bpffs(parser)
    parser.add_argument("--force", action="store_true", help="stop a running agent first")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from kubypass.agent.cleanup import cleanup

    done = cleanup(arguments.run_directory, arguments.bpffs, force=arguments.force)
    print("\n".join(done) if done else "nothing of ours is on this node")
    return 0
