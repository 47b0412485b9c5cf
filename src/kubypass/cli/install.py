# SPDX-License-Identifier: Apache-2.0
"""`kubypass install`: checks the cluster, then puts the agents into it, as the chart deploy/helm/kubypass would."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubypass.cli.options import add_kubeconfig, add_wait
from kubypass.cli.output import write_output
from kubypass.cli.table import print_label
from kubypass.model.address import in_brackets

if TYPE_CHECKING:
    from kubypass.kube.client.rest import Rest

_EPILOG = """--dry-run also says what an agent changes on its node; `kubypass uninstall` takes all of it away.

examples:
  kubypass install --dry-run
  kubypass install --values values.yaml --set config.ipv4-native-routing-cidr=10.244.0.0/16
  kubypass install -o yaml --set k8sServiceHost=192.168.1.10 > kubypass.yaml    no cluster is asked"""

_WOULD = {"created": "create", "configured": "configure", "unchanged": "keep"}


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "install",
        help="put the agents into a cluster",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would be done; the API server checks every object and keeps none",
    )
    parser.add_argument(
        "--values",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="the chart's values; more than one",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one value, before those of files",
    )
    parser.add_argument(
        "-o",
        "--output",
        choices=("text", "yaml"),
        default="text",
        help="yaml: print the objects only",
    )
    parser.add_argument(
        "--force-conflicts",
        action="store_true",
        help="take over fields that helm or kubectl have set",
    )
    add_wait(parser, 300, "for all agents to be ready; 0: not")
    add_kubeconfig(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from kubypass.install.render import needs_api_server, render
    from kubypass.install.values import read_values

    values = read_values(arguments.values, arguments.set)
    if arguments.output == "yaml" and not needs_api_server(values):
        _print_yaml(render(values))
        return 0
    from kubypass.install.host_changes import host_changes
    from kubypass.install.survey import look_at, remarks
    from kubypass.kube.client.rest import open_cluster

    rest = open_cluster(arguments.kubeconfig)
    survey = look_at(rest)
    _complete(values, rest, survey, quiet=arguments.output == "yaml")
    objects = render(values)
    if arguments.output == "yaml":
        _print_yaml(objects)
        return 0
    found = remarks(survey, values)
    nodes = "1 node" if len(survey.nodes) == 1 else f"{len(survey.nodes)} nodes"
    where = f"{in_brackets(rest.server)}:{rest.port}"
    print_label("cluster", f"Kubernetes {survey.version}, {nodes}, API server {where}")
    for remark in found:
        print_label(remark.level.replace("stop", "STOP"), remark.text)
    if any(remark.level == "stop" for remark in found):
        print("nothing was changed")
        return 1
    return _apply(rest, objects, host_changes(values), arguments)


def _complete(values: dict[str, Any], rest: Rest, survey: Any, *, quiet: bool) -> None:  # noqa: ANN401
    from kubypass.install.render import needs_api_server
    from kubypass.install.survey import api_server

    server = api_server(survey, rest.server, rest.port) if needs_api_server(values) else None
    if server:
        values["k8sServiceHost"], values["k8sServicePort"] = server
        if not quiet:
            found = f"k8sServiceHost is {server[0]}, k8sServicePort {server[1]}"
            print_label("note", f"{found}: nodes have to reach it")


def _print_yaml(objects: list[dict[str, Any]]) -> None:
    import yaml

    text = yaml.dump_all(objects, Dumper=yaml.CSafeDumper, sort_keys=False)
    write_output(text.encode())


def _apply(
    rest: Rest, objects: list[dict[str, Any]], changes: list[str], arguments: argparse.Namespace
) -> int:
    from kubypass.install.apply import apply_all, name_of, wait_ready
    from kubypass.install.render import agents_of

    steps = apply_all(rest, objects, dry_run=arguments.dry_run, force=arguments.force_conflicts)
    words = _WOULD if arguments.dry_run else {}
    for item, what in steps:
        print_label(words.get(what, what), name_of(item))
    if arguments.dry_run:
        pod = agents_of(objects)["spec"]["template"]["spec"]
        labels = ", ".join(f"{key}={value}" for key, value in pod["nodeSelector"].items())
        image = pod["containers"][0]["image"]
        print_label(
            "nodes", f"those with {labels or 'any labels'} get an agent of {image}, and from it:"
        )
        for line in changes:
            print_label("", line)
        print("nothing was changed (--dry-run)")
        return 0
    if not arguments.wait:
        return 0
    late = wait_ready(rest, "kubypass", arguments.wait, partial(print_label, "agents"))
    for line in late:
        print_label("not ready", line)
    if not late:
        print_label("agents", "all ready")
    return 1 if late else 0
