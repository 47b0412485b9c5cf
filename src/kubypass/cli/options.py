# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share; each function adds one to a parser."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path


def add_run(parser: argparse.ArgumentParser) -> None:
    """Adds `--run`, the agent's run directory."""
    default = Path(os.environ.get("KUBYPASS_RUN", "/run/kubypass"))
    text = "the agent's run directory (KUBYPASS_RUN; default %(default)s)"
    parser.add_argument(
        "--run", type=Path, default=default, metavar="DIR", dest="run_directory", help=text
    )


def add_bpffs(parser: argparse.ArgumentParser) -> None:
    """Adds `--bpffs`, the bpf filesystem."""
    default = Path(os.environ.get("KUBYPASS_BPFFS", "/sys/fs/bpf"))
    text = "a directory on a bpf filesystem (KUBYPASS_BPFFS; default %(default)s)"
    parser.add_argument("--bpffs", type=Path, default=default, metavar="DIR", help=text)


def add_output(parser: argparse.ArgumentParser) -> None:
    """Adds `-o`, text or JSON."""
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def add_kubeconfig(parser: argparse.ArgumentParser) -> None:
    """Adds `--kubeconfig`."""
    text = "how to reach the cluster (KUBECONFIG; default ~/.kube/config)"
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help=text)


def add_wait(parser: argparse.ArgumentParser, seconds: float, what: str) -> None:
    """Adds `--wait`; `what` says what is waited for."""
    text = f"{what} (default {seconds:g})"
    parser.add_argument("--wait", type=float, default=seconds, metavar="SECONDS", help=text)


def add_names(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds NAME and `-n`, by which `is_asked` narrows a list; `what` says what has the name."""
    text = f"{what} only; NAMESPACE/NAME as well"
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help=text)
    parser.add_argument("-n", "--namespace", default="", help="of this namespace only")


def is_asked(row: Mapping[str, object], arguments: argparse.Namespace) -> bool:
    """Whether the row has the namespace and the name that are asked for, if any are."""
    namespace, _, name = arguments.name.rpartition("/")
    return (not name or row.get("name") == name) and all(
        not asked or row.get("namespace") == asked for asked in (namespace, arguments.namespace)
    )
