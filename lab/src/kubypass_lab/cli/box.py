# SPDX-License-Identifier: Apache-2.0
"""`kubypass box`: a cluster in a box."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from kubypass.cli.table import format_table
from kubypass_lab.checkout import GUIDE

if TYPE_CHECKING:
    from kubypass_lab.box.kubernetes.cluster import Cluster

Parsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 (argparse has no public name for it)
Run = Callable[[argparse.Namespace], int]

_OTHER = "choose another --name, or take it down first"


def register(subparsers: Parsers) -> None:
    """Add `box` and its commands."""
    parser = subparsers.add_parser(
        "box", help="a cluster in a box: nodes, pods and a client as namespaces"
    )
    commands = parser.add_subparsers(dest="box_command", required=True, metavar="COMMAND")

    _register_up(commands)
    _register_objects(commands)

    run = _command(commands, "exec", "run a command in a node, the client or a pod", _exec)
    run.add_argument(
        "target", metavar="TARGET", help="node1, node2, a host's name, client, pod/NAME"
    )
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND")

    show = _command(commands, "list", "the boxes, or what is in one of them (--name)", _list)
    show.set_defaults(name=None)
    show.add_argument("-o", "--output", choices=["text", "json"], default="text")

    _command(
        commands,
        "kubeconfig",
        "print the administrator's kubeconfig of a real Kubernetes; its API server is reached from "
        "the box's nodes and client: kubypass box exec client -- kubectl get nodes",
        _kubeconfig,
    )

    _command(commands, "down", "end the box and remove all of it", _down)

    _register_demos(commands)


def _register_up(commands: Parsers) -> None:
    """Add the commands that make a box."""
    up = _command(commands, "up", "make a box from a KubeKey file", _up)
    up.add_argument(
        "-f", "--file", type=Path, default=GUIDE / "config-sample.yaml", metavar="KUBEKEY.yaml"
    )
    up.add_argument("--settings", type=Path, default=GUIDE / "cilium-config.yaml", metavar="FILE")
    up.add_argument("--no-agent", action="store_true", help=argparse.SUPPRESS)
    kubernetes = up.add_argument_group("a real Kubernetes, with kubelets and containerd")
    kubernetes.add_argument("--kubernetes", action="store_true", help="make one")
    kubernetes.add_argument(
        "--nodes", type=int, metavar="N", help="0 (a control plane alone) to 3 nodes (default: 2)"
    )
    kubernetes.add_argument(
        "--proxy",
        metavar="PROXY",
        help="who serves Services: kubypass (default), kube-proxy-iptables, kube-proxy-nftables, none",
    )
    _add_version(kubernetes)


def _register_demos(commands: Parsers) -> None:
    """Add the demos."""
    demo = _command(commands, "demo", "the guide's scenario, every step checked", _demo)
    demo.set_defaults(name="demo")
    demo.add_argument(
        "--config", type=Path, default=GUIDE / "config-sample.yaml", metavar="KUBEKEY.yaml"
    )
    demo.add_argument("--settings", type=Path, default=GUIDE / "cilium-config.yaml", metavar="FILE")

    real = _command(
        commands,
        "demo-kubernetes",
        "the guide's scenario with kubectl on a real Kubernetes, every step checked",
        _demo_kubernetes,
    )
    real.set_defaults(name="demo")
    _add_version(real)
    real.add_argument(
        "--config", type=Path, default=GUIDE / "config-sample.yaml", metavar="KUBEKEY.yaml"
    )


def _add_version(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--version",
        metavar="VERSION",
        help="of Kubernetes: 1.33, 1.34 (default) or 1.37; its programs are built on first use",
    )


def _register_objects(commands: Parsers) -> None:
    """Add the commands that change Kubernetes objects."""
    apply = _command(
        commands,
        "apply",
        "take Deployments, Pods, Services and EndpointSlices; the network leads externalIPs and load "
        "balancers' addresses (status.loadBalancer.ingress, as written) to node1",
        _apply,
    )
    apply.add_argument("-f", "--file", type=Path, action="append", required=True, metavar="FILE")

    delete = _command(commands, "delete", "take an object away, with its pods", _delete)
    delete.add_argument("target", metavar="KIND/NAME", help="such as service/web or pod/web")

    scale = _command(commands, "scale", "change the replicas of a Deployment", _scale)
    scale.add_argument("target", metavar="deployment/NAME")
    scale.add_argument("--replicas", type=int, required=True)

    label = _command(commands, "label", "change labels of a node", _label)
    label.add_argument("node", metavar="NODE", help="node1, node2 or a host's name")
    label.add_argument(
        "changes", nargs="+", metavar="KEY=VALUE", help="a label; KEY- takes it away"
    )


def _command(commands: Parsers, name: str, text: str, run: Run) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--name", default="box", help="name of the box (default: %(default)s)")
    parser.set_defaults(run=run)
    return parser


def _say(line: str) -> None:
    print(line, flush=True)


def _up(arguments: argparse.Namespace) -> int:
    from kubypass.errors import ConfigError
    from kubypass_lab.box.box import up
    from kubypass_lab.box.kubernetes.paths import cluster_names

    if arguments.kubernetes:
        return _up_kubernetes(arguments)
    if any(each is not None for each in (arguments.nodes, arguments.proxy, arguments.version)):
        message = "--nodes, --proxy and --version are for a real Kubernetes"
        raise ConfigError(message, "add --kubernetes")
    if arguments.name in cluster_names():
        raise ConfigError(f"--name {arguments.name} is a Kubernetes cluster", _OTHER)
    up(arguments.name, arguments.file, arguments.settings, _say, with_agents=not arguments.no_agent)
    return 0


def _up_kubernetes(arguments: argparse.Namespace) -> int:
    from kubypass.errors import ConfigError
    from kubypass_lab.box.kubernetes.cluster import Plan, up
    from kubypass_lab.box.kubernetes.programs import VERSION, parse_version
    from kubypass_lab.box.kubernetes.proxies import parse_proxy
    from kubypass_lab.box.paths import BoxPaths

    if BoxPaths(arguments.name).root.is_dir():
        raise ConfigError(f"--name {arguments.name} is a box without Kubernetes", _OTHER)
    nodes = 2 if arguments.nodes is None else arguments.nodes
    proxy = parse_proxy(arguments.proxy or "kubypass")
    own, version = proxy == "kubypass", parse_version(arguments.version or VERSION)
    up(arguments.name, Plan(arguments.file, arguments.settings, nodes, proxy, own, version), _say)
    return 0


def _apply(arguments: argparse.Namespace) -> int:
    from kubypass_lab.box.apply import apply_files
    from kubypass_lab.box.box import open_box

    apply_files(open_box(arguments.name), arguments.file, _say)
    return 0


def _delete(arguments: argparse.Namespace) -> int:
    from kubypass_lab.box.apply import delete
    from kubypass_lab.box.box import open_box

    delete(open_box(arguments.name), arguments.target, _say)
    return 0


def _scale(arguments: argparse.Namespace) -> int:
    from kubypass_lab.box.apply import scale
    from kubypass_lab.box.box import open_box

    scale(open_box(arguments.name), arguments.target, arguments.replicas, _say)
    return 0


def _label(arguments: argparse.Namespace) -> int:
    from kubypass_lab.box.box import open_box
    from kubypass_lab.box.labels import label_node

    label_node(open_box(arguments.name), arguments.node, arguments.changes)
    return 0


def _exec(arguments: argparse.Namespace) -> int:
    from kubypass_lab.box.box import open_box
    from kubypass_lab.box.enter import enter
    from kubypass_lab.box.kubernetes.enter import enter_cluster

    argv = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
    sys.stdout.flush()
    cluster = _find_cluster(arguments.name)
    if cluster is not None:
        enter_cluster(cluster, arguments.target, argv)
    enter(open_box(arguments.name), arguments.target, argv)


def _find_cluster(name: str) -> Cluster | None:
    """The cluster of this name; None if no part of one exists."""
    from kubypass_lab.box.kubernetes.cluster import open_cluster
    from kubypass_lab.box.kubernetes.paths import ClusterPaths

    return open_cluster(name) if ClusterPaths(name).exists() else None


def _kubeconfig(arguments: argparse.Namespace) -> int:
    from kubypass_lab.box.kubernetes.cluster import open_cluster

    _say(open_cluster(arguments.name).paths.kubeconfig.read_text().rstrip())
    return 0


def _list(arguments: argparse.Namespace) -> int:
    description = _describe(arguments.name)
    if arguments.output == "json":
        import json

        _say(json.dumps(description, indent=2))
    else:
        text = "\n\n".join(_format_rows(rows) for rows in description.values() if rows)
        _say(text or "no box; make one: kubypass box up")
    return 0


def _describe(name: str | None) -> dict[str, list[dict[str, str]]]:
    """The boxes, or what is in the box of this name."""
    if name is None:
        from kubypass_lab.box.boxes import describe_boxes

        return {"boxes": describe_boxes()}
    from kubypass_lab.box.box import open_box
    from kubypass_lab.box.kubernetes.listing import describe_cluster
    from kubypass_lab.box.listing import describe_box

    cluster = _find_cluster(name)
    return describe_cluster(cluster) if cluster else describe_box(open_box(name))


def _format_rows(rows: list[dict[str, str]]) -> str:
    return format_table([[key.upper() for key in rows[0]], *([*row.values()] for row in rows)], 2)


def _down(arguments: argparse.Namespace) -> int:
    from kubypass_lab.box import box
    from kubypass_lab.box.kubernetes import cluster
    from kubypass_lab.box.kubernetes.paths import ClusterPaths

    if ClusterPaths(arguments.name).exists():
        cluster.down(arguments.name, _say)
    else:
        box.down(arguments.name, _say)
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from kubypass_lab.box.demo import demo

    return demo(arguments.name, arguments.config, arguments.settings)


def _demo_kubernetes(arguments: argparse.Namespace) -> int:
    from kubypass_lab.box.kubernetes.demo import demo_kubernetes
    from kubypass_lab.box.kubernetes.programs import VERSION, parse_version

    version = parse_version(arguments.version or VERSION)
    return demo_kubernetes(arguments.name, arguments.config, version)
