# SPDX-License-Identifier: Apache-2.0
"""`kubypass agent`: runs in the network namespace of its node, until SIGTERM."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path

from kubypass.cli.options import add_bpffs, add_run

_EPILOG = """Any settings key (docs/settings.md) is an option too, and goes before the file's:
  kubypass agent --kubeconfig admin.conf --config-map kube-system/kubypass-config
  kubypass agent --manifests DIR --config cilium-config.yaml --ipv4-native-routing-cidr=10.233.64.0/18

Ending the agent leaves the datapath in place; `kubypass cleanup` removes it."""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "agent",
        help="serve services on this node",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="kubypass agent [--manifests PATH | --kubeconfig FILE] [--node NAME] "
        "[--config PATH | --config-map NAMESPACE/NAME] [--KEY=VALUE …]",
        allow_abbrev=False,
    )
    _add_sources(parser)
    parser.add_argument(
        "--node",
        default=os.environ.get("NODE_NAME") or socket.gethostname(),
        help="this node's name (NODE_NAME; default %(default)s)",
    )
    cgroup = os.environ.get("KUBYPASS_CGROUP")
    parser.add_argument(
        "--cgroup",
        type=Path,
        default=Path(cgroup) if cgroup else None,
        metavar="DIR",
        help="where socket load balancing is attached (KUBYPASS_CGROUP; default: where cgroup v2 is mounted)",
    )
    parser.add_argument(
        "--check-every",
        type=_seconds,
        default=os.environ.get("KUBYPASS_CHECK_EVERY", "60"),
        metavar="SECONDS",
        help="how often maps, attachments and routes are compared with what they should be (KUBYPASS_CHECK_EVERY; "
        "default 60)",
    )
    parser.add_argument(
        "--prepare-node",
        action="store_true",
        help="mount a bpf filesystem for the node if it has none, and end; an agent with few capabilities cannot",
    )
    _add_cni(parser)
    add_run(parser)
    add_bpffs(parser)
    parser.set_defaults(run=_run)


def _add_sources(parser: argparse.ArgumentParser) -> None:
    """Adds the options for the sources of services and settings."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--manifests",
        type=Path,
        metavar="PATH",
        help="services from a file, or a directory with all below it, instead of an API",
    )
    source.add_argument(
        "--kubeconfig",
        type=Path,
        metavar="FILE",
        help="the cluster, and who we are there (default: the service account of the pod, else KUBECONFIG)",
    )
    config = parser.add_mutually_exclusive_group()
    config.add_argument(
        "--config", type=Path, metavar="PATH", help="settings: YAML, ConfigMap, or a directory"
    )
    config.add_argument(
        "--config-map",
        default="",
        metavar="NAMESPACE/NAME",
        help="settings: a ConfigMap of the cluster, which is followed",
    )
    parser.add_argument(
        "--node-configs",
        metavar="NAME,NAME",
        help="the ConfigMaps for some nodes, beside that one; none if empty (default: those with the label "
        "kubypass.io/node-config, which takes the right to list every ConfigMap there)",
    )


def _add_cni(parser: argparse.ArgumentParser) -> None:
    """Adds the options for the pod network. Without both, another plugin serves the pods."""
    for name, what, usual in (
        ("conf", "where the container runtime looks for networks", "/etc/cni/net.d"),
        ("bin", "where it looks for their programs", "/opt/cni/bin"),
    ):
        text = f"{what}, such as {usual}: pods get their network from us; both or none"
        parser.add_argument(f"--cni-{name}-dir", type=Path, metavar="DIR", help=text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.01 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text}: expected seconds, 0.01 to 86400")
    return seconds


def _run(arguments: argparse.Namespace) -> int:
    from kubypass.agent.main import prepare_node, run
    from kubypass.agent.options import Options
    from kubypass.errors import ConfigError
    from kubypass.settings.files import parse_overrides

    if (arguments.cni_conf_dir is None) != (arguments.cni_bin_dir is None):
        raise ConfigError(
            "--cni-conf-dir and --cni-bin-dir: one is missing", hint="give both or none"
        )
    do = prepare_node if arguments.prepare_node else run
    return do(
        Options(
            manifests=arguments.manifests,
            node=arguments.node,
            config=arguments.config,
            overrides=parse_overrides(arguments.extra),
            run=arguments.run_directory,
            bpffs=arguments.bpffs,
            cgroup=arguments.cgroup,
            check_every_s=arguments.check_every,
            cni_conf_dir=arguments.cni_conf_dir,
            cni_bin_dir=arguments.cni_bin_dir,
            kubeconfig=arguments.kubeconfig,
            config_map=arguments.config_map,
            node_configs=arguments.node_configs,
        )
    )
