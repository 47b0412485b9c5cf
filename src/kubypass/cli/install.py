# SPDX-License-Identifier: Apache-2.0
"""`kubypass install`: checks the cluster, then puts the agents into it, as the chart deploy/helm/kubypass would."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubypass.cli.options import add_kubeconfig, add_wait
from kubypass.cli.output import write_output
from kubypass.cli.table import print_label
from kubypass.model.address import in_brackets

if TYPE_CHECKING:
    from kubypass.install.survey import Survey
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
        choices=("text", "yaml", "json"),
        default="text",
        help="yaml: print the objects only; json: what was found and done, as one document at the end",
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
    from kubypass.install.survey import look_at
    from kubypass.kube.client.rest import open_cluster

    rest = open_cluster(arguments.kubeconfig)
    survey = look_at(rest)
    report = _Report(silent=arguments.output != "text")
    _complete(values, rest, survey, report)
    if arguments.output == "yaml":
        _print_yaml(render(values))
        return 0
    code = _install(rest, survey, values, arguments, report)
    if arguments.output == "json":
        print(
            json.dumps(
                {**report.document, "dry_run": arguments.dry_run, "exit_code": code}, indent=2
            )
        )
    return code


class _Report:
    """Says what is found and done: a line for each as it comes, or one document in the end."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self.document: dict[str, Any] = {
            "cluster": {}, "remarks": [], "objects": [], "node_changes": [], "not_ready": [],
        }  # fmt: skip

    def say(self, label: str, text: str) -> None:
        """Prints a line where lines are wanted."""
        if not self._silent:
            print_label(label, text)

    def remark(self, level: str, text: str) -> None:
        """Notes what was found in the cluster."""
        self.document["remarks"].append({"level": level, "text": text})
        self.say(level.replace("stop", "STOP"), text)

    def end(self, text: str) -> None:
        """Prints the last line."""
        if not self._silent:
            print(text)


def _install(
    rest: Rest,
    survey: Survey,
    values: dict[str, Any],
    arguments: argparse.Namespace,
    report: _Report,
) -> int:
    from kubypass.agent.node_fit import remarks_here
    from kubypass.install.host_changes import host_changes
    from kubypass.install.render import render
    from kubypass.install.survey import remarks
    from kubypass.settings.check import check_settings

    objects, found = render(values), remarks(survey, values)
    nodes = "1 node" if len(survey.nodes) == 1 else f"{len(survey.nodes)} nodes"
    where = f"{in_brackets(rest.server)}:{rest.port}"
    report.document["cluster"] = {
        "version": survey.version, "nodes": len(survey.nodes), "server": where,
    }  # fmt: skip
    report.say("cluster", f"Kubernetes {survey.version}, {nodes}, API server {where}")
    for remark in found:
        report.remark(remark.level, remark.text)
    for text in remarks_here(check_settings(values["config"])[0]):
        report.remark("note", text)
    if any(remark.level == "stop" for remark in found):
        report.end("nothing was changed")
        return 1
    return _apply(rest, objects, host_changes(values), arguments, report)


def _complete(values: dict[str, Any], rest: Rest, survey: Survey, report: _Report) -> None:
    from kubypass.install.render import needs_api_server
    from kubypass.install.survey import api_server

    server = api_server(survey, rest.server, rest.port) if needs_api_server(values) else None
    if server:
        values["k8sServiceHost"], values["k8sServicePort"] = server
        found = f"k8sServiceHost is {server[0]}, k8sServicePort {server[1]}"
        report.remark("note", f"{found}: nodes have to reach it")


def _print_yaml(objects: list[dict[str, Any]]) -> None:
    import yaml

    text = yaml.dump_all(objects, Dumper=yaml.CSafeDumper, sort_keys=False)
    write_output(text.encode())


def _apply(
    rest: Rest,
    objects: list[dict[str, Any]],
    changes: list[str],
    arguments: argparse.Namespace,
    report: _Report,
) -> int:
    from kubypass.install.apply import apply_all, name_of, wait_ready

    steps = apply_all(rest, objects, dry_run=arguments.dry_run, force=arguments.force_conflicts)
    words = _WOULD if arguments.dry_run else {}
    for item, what in steps:
        report.document["objects"].append({"object": name_of(item), "outcome": what})
        report.say(words.get(what, what), name_of(item))
    if arguments.dry_run:
        report.document["node_changes"] = [line.strip() for line in changes]
        _say_what_nodes_get(objects, changes, report)
        return 0
    if not arguments.wait:
        return 0
    late = wait_ready(rest, "kubypass", arguments.wait, partial(report.say, "agents"))
    report.document["not_ready"] = late
    for line in late:
        report.say("not ready", line)
    if not late:
        report.say("agents", "all ready")
    return 1 if late else 0


def _say_what_nodes_get(objects: list[dict[str, Any]], changes: list[str], report: _Report) -> None:
    from kubypass.install.render import agents_of

    pod = agents_of(objects)["spec"]["template"]["spec"]
    labels = ", ".join(f"{key}={value}" for key, value in pod["nodeSelector"].items())
    image = pod["containers"][0]["image"]
    those = f"those with {labels or 'any labels'} get an agent of {image}, and from it:"
    report.say("nodes", those)
    for line in changes:
        report.say("", line)
    report.end("nothing was changed (--dry-run)")
