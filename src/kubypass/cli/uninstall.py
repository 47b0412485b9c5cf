# SPDX-License-Identifier: Apache-2.0
"""`kubypass uninstall`: removes the agents from a cluster, and everything of ours from its nodes.

Afterwards, Services are not served unless kube-proxy runs again: start it first. Pods on kubypass's network keep their
addresses and routes until they end.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from kubypass.cli.options import add_kubeconfig, add_wait
from kubypass.cli.table import print_label

if TYPE_CHECKING:
    from kubypass.kube.client.rest import Rest


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "uninstall", help="take the agents out of a cluster", description=__doc__
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    parser.add_argument(
        "--keep-datapath",
        action="store_true",
        help="remove the objects only: nodes go on as they were left, until `kubypass cleanup` runs on them",
    )
    add_wait(parser, 120, "for each step on the nodes")
    add_kubeconfig(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from kubypass.install.apply import name_of, remove_all, wait_gone
    from kubypass.install.chart import rendered_objects
    from kubypass.install.render import agents_of
    from kubypass.kube.client.rest import open_cluster

    rest, objects = open_cluster(arguments.kubeconfig), rendered_objects()
    agents = rest.get(rest.path_of(agents_of(objects)))
    if arguments.dry_run:
        for item in reversed(objects):
            there = rest.knows(item) and rest.get(rest.path_of(item))
            print_label("remove" if there else "not there", name_of(item))
        print("nothing was changed (--dry-run)")
        return 0
    for item, was_there in remove_all(rest, objects):
        print_label("removed" if was_there else "not there", name_of(item))
    for pod in wait_gone(rest, "kubypass", arguments.wait):
        print_label("still there", f"Pod {pod}: its node keeps what it has")
    if agents is None or arguments.keep_datapath:
        print("nodes keep what they have: run `kubypass cleanup` on each, with the agents stopped")
        return 0
    return _clean_nodes(rest, agents, arguments.wait)


def _clean_nodes(rest: Rest, agents: dict[str, Any], wait_s: float) -> int:
    from kubypass.install.apply import apply_all, wait_ready
    from kubypass.install.node_cleanup import NAME, cleanup_daemon_set

    item = cleanup_daemon_set(agents)
    try:
        for _ in apply_all(rest, [item], dry_run=False, force=True):
            print_label("cleaning", "every node")
        late = wait_ready(rest, NAME, wait_s, partial(print_label, "cleaning"))
    finally:
        rest.delete(rest.path_of(item))
    for line in late:
        print_label("not clean", line)
    if not late:
        text = "clean; /opt/cni/bin/kubypass-cni stays where a pod on its network has still to be deleted"
        print_label("nodes", text)
    return 1 if late else 0
