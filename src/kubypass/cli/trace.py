# SPDX-License-Identifier: Apache-2.0
"""`kubypass trace`: one new connection through the real programs, and why each of them decided as it did."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from kubypass.cli.capture import add_capture, capture_to_write, output_format, replay_capture
from kubypass.cli.input import open_input, read_parts
from kubypass.cli.options import add_bpffs, add_run
from kubypass.cli.output import write_output
from kubypass.cli.progress import progress
from kubypass.cli.signals import signals_blocked, signals_unblocked
from kubypass.errors import ConfigError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from kubypass.trace.explanation import Explanation
    from kubypass.trace.traced_node import TracedNode

_EPILOG = """examples:
  kubypass trace --from pod/default/web-0 --to 10.233.30.47:80/tcp     on the pod's node, with the agent's live maps
  kubypass trace --from 203.0.113.9 --to node1:30776                   a client outside
  kubypass trace --from pod/default/web-0 --source-address 8.8.8.8 --to 10.233.64.3:53/udp    a forged packet
  kubypass trace --from node/node1 --to service/default/my-nginx:80
  kubypass trace --manifests DIR --node node1 --from pod/10.233.64.14 --to 10.233.30.47:80
  kubypass trace --batch cases.jsonl -o json                           a case a line, each with its own objects
  kubypass trace --pcap in.pcap -o out.pcap                            a capture, as if its packets came from outside
  kubypass trace --pcap in.pcap --hook from-pod=default/web-0 -o json  as if the pod sent them

Nothing is sent and nothing of it is seen by the host: packets go through by test run, socket calls are made in a
namespace and a cgroup that end with the command, and live maps are only read.
Exit code: 0 where the connection gets through, 1 where it is dropped or rejected; with --pcap, 1 where a part of the
capture could not be run."""
_WIDTH = 20
_JSON_LINES = "give a file of JSON Lines"


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "trace", help="why a connection goes where it goes", description=__doc__,
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--from", dest="source", metavar="SOURCE",
        help="pod/NAMESPACE/NAME, pod/ADDRESS, node/NAME, or the address of a client outside; among objects another "
        "node is one: its packets are looked at as they arrive",
    )  # fmt: skip
    parser.add_argument(
        "--source-address", default="", metavar="ADDRESS",
        help="with a pod: what it sends has this source, which need not be its own",
    )  # fmt: skip
    parser.add_argument(
        "--to", dest="target", metavar="TARGET",
        help="HOST:PORT or HOST:PORT/PROTOCOL (tcp, udp, sctp); HOST is an address, a node, "
        "node/NAME or service/NAMESPACE/NAME",
    )  # fmt: skip
    add_capture(parser)
    offline = parser.add_argument_group("without an agent")
    offline.add_argument(
        "--manifests", type=Path, metavar="PATH", help="objects: a file, or a directory"
    )
    offline.add_argument("--node", default="", metavar="NAME", help="as seen from this node")
    offline.add_argument(
        "--config", type=Path, metavar="PATH", help="settings: YAML, ConfigMap, or a directory"
    )
    offline.add_argument(
        "--batch", type=Path, metavar="FILE",
        help="JSON Lines, `-` for standard input: an answer in JSON for each",
    )  # fmt: skip
    add_run(parser)
    add_bpffs(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.batch:
        if arguments.source or arguments.target or arguments.manifests or arguments.pcap:
            raise ConfigError("--batch: not together with --from, --to, --pcap or --manifests")
        return _run_batch(arguments.batch)
    if arguments.pcap:
        if arguments.source or arguments.target:
            raise ConfigError("--pcap: not together with --from or --to: the packets say both")
        with _open_node(arguments) as node:
            return replay_capture(arguments, node)
    if arguments.hook or capture_to_write(arguments):
        raise ConfigError("--hook, -o FILE.pcap: only with --pcap", hint="kubypass trace --help")
    if not arguments.source or not arguments.target:
        raise ConfigError("trace: expected --from and --to", hint="kubypass trace --help")
    from kubypass.trace.explanation import explain
    from kubypass.trace.fields import explanation_fields
    from kubypass.trace.run import Answer

    with _open_node(arguments) as node:
        flow, source = node.parse_flow(arguments.source, arguments.target)
        flow, pod = node.with_source(flow, source, arguments.source_address)
        explanation = explain(node.programs, flow, source, node.local, node.explain_port, pod=pod)
    if output_format(arguments) == "json":
        text = json.dumps(explanation_fields(explanation, node), indent=1) + "\n"
    else:
        text = _text(explanation, arguments, node)
    write_output(text.encode(errors="backslashreplace"))
    return 0 if explanation.run.answer in {Answer.DNAT, Answer.ACCEPT} else 1


@contextmanager
def _open_node(arguments: argparse.Namespace) -> Iterator[TracedNode]:
    with (
        signals_blocked(),
        progress() as shown,  # its thread must not take the signals that are blocked here
        _node(arguments, shown.say) as node,
        signals_unblocked(),
    ):
        shown.end()
        yield node


def _node(
    arguments: argparse.Namespace, say: Callable[[str], None]
) -> AbstractContextManager[TracedNode]:
    if arguments.manifests:
        from kubypass.trace.manifest_node import manifest_node

        return manifest_node(arguments.manifests, arguments.node, arguments.config, say)
    from kubypass.trace.live_node import live_node

    return live_node(arguments.run_directory, arguments.bpffs, say)


def _run_batch(path: Path) -> int:
    from kubypass.trace.batch import answer_cases
    from kubypass.trace.programs import open_programs

    with (
        open_input("--batch", path, _JSON_LINES) as file,
        signals_blocked(),
        progress(patience_s=inf) as shown,  # programs read both streams: only a person is told
        open_programs({}, say=shown.say) as programs,
        signals_unblocked(),
    ):
        shown.end()
        for answer in answer_cases(programs, read_parts("--batch", path, file, _JSON_LINES)):
            write_output(answer + b"\n")
    return 0


def _text(explanation: Explanation, arguments: argparse.Namespace, node: TracedNode) -> str:
    lines = [
        f"{arguments.source} -> {arguments.target}: a new connection, seen from node {node.node}"
    ]
    for step in explanation.steps:
        lines.append(f"  {step.where:<{_WIDTH}}{step.text}")
        if step.where == "rule" and explanation.service:
            for note in explanation.service.endpoints:
                mark = "+" if note.used else "-"
                where = f"on {note.node}" if note.node else ""
                lines.append(f"  {'':<{_WIDTH}}{mark} {note.address:<24} {where:<12} {note.why}")
    lines.append(f"{explanation.run.answer}: {explanation.reason}")
    if explanation.change:
        lines.append(f"to change that: {explanation.change}")
    lines += [f"problem: {problem}" for problem in node.problems]
    return "\n".join(lines) + "\n"
