# SPDX-License-Identifier: Apache-2.0
"""`kubypass version`: prints the versions of kubypass, libbpf and the kernel."""

from __future__ import annotations

import argparse
import platform


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser("version", help="versions of kubypass, libbpf and the kernel")
    parser.set_defaults(run=_run)


def _run(_: argparse.Namespace) -> int:
    from kubypass.kernel import libbpf
    from kubypass.version import VERSION

    print(f"kubypass {VERSION}, libbpf {libbpf.version()}, Linux {platform.release()}")
    return 0
