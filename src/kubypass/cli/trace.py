# SPDX-License-Identifier: Apache-2.0
"""`kubypass trace`: one new connection through the real programs, and why each of them decided as it did."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kubypass.cli.options import add_bpffs, add_output, add_run
from kubypass.cli.output import put
from kubypass.cli.signals import signals_held, signals_let_in
from kubypass.errors import ConfigError

if TYPE_CHECKING:
    from kubypass.trace.explanation import Story
    from kubypass.trace.traced_node import Place

_EPILOG = """examples:
  kubypass trace --from pod/default/web-0 --to 10.233.30.47:80/tcp     on the pod's node, with the agent's live maps
  kubypass trace --from 203.0.113.9 --to node1:30776                   a client outside
  kubypass trace --from node/node1 --to service/default/my-nginx:80
  kubypass trace --manifests DIR --node node1 --from pod/10.233.64.14 --to 10.233.30.47:80
  kubypass trace --batch cases.jsonl -o json                           a case a line, each with its own objects

Nothing is sent and nothing of it is seen by the host: packets go through by test run, socket calls are made in a
namespace and a cgroup that end with the command, and live maps are only read.
Exit code: 0 where the connection gets through, 1 where it is dropped or rejected."""
_WIDTH = 20


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
        "--to", dest="target", metavar="TARGET",
        help="HOST:PORT or HOST:PORT/PROTOCOL (tcp, udp, sctp); HOST is an address, a node, "
        "node/NAME or service/NAMESPACE/NAME",
    )  # fmt: skip
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
    add_output(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.batch:
        if arguments.source or arguments.target or arguments.manifests:
            raise ConfigError("--batch: not together with --from, --to or --manifests")
        return _run_batch(arguments.batch)
    if not arguments.source or not arguments.target:
        raise ConfigError("trace: expected --from and --to", hint="kubypass trace --help")
    from kubypass.trace.explanation import tell
    from kubypass.trace.run import Answer
    from kubypass.trace.traced_node import live_place, offline_place

    if sys.stderr.isatty():
        print("kubypass: loading the programs once more, for this trace only", file=sys.stderr)
    make = offline_place if arguments.manifests else live_place
    with signals_held(), make(arguments) as place, signals_let_in():
        flow, source = place.flow(arguments.source, arguments.target)
        story = tell(place.programs, flow, source, place.local, place.explain)
    shown = _fields(story, place) if arguments.output == "json" else None
    text = json.dumps(shown, indent=1) + "\n" if shown else _text(story, arguments, place)
    put(text.encode())
    return 0 if story.run.answer in {Answer.DNAT, Answer.ACCEPT} else 1


def _run_batch(path: Path) -> int:
    from kubypass.trace.batch import answer_cases
    from kubypass.trace.programs import open_programs

    with _input(path) as file, signals_held(), open_programs({}) as programs, signals_let_in():
        for answer in answer_cases(programs, _lines(path, file)):
            put(answer + b"\n")
    return 0


def _input(path: Path) -> BinaryIO:
    if str(path) == "-":
        return sys.stdin.buffer
    try:
        return path.open("rb")
    except OSError as error:
        raise _unread(path, error) from None


def _lines(path: Path, file: BinaryIO) -> Iterator[bytes]:
    try:
        yield from file
    except OSError as error:
        raise _unread(path, error) from None


def _unread(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"--batch {path}: {error.strerror}", hint="give a file of JSON Lines")


def _fields(story: Story, place: Place) -> dict[str, object]:
    from kubypass.trace.batch import verdict_fields

    return {
        **verdict_fields(story.run),
        "node": place.node,
        "reason": story.reason,
        "change": story.change,
        "steps": [asdict(step) for step in story.steps],
        "service": asdict(story.service) if story.service else None,
        "problems": place.problems,
    }


def _text(story: Story, arguments: argparse.Namespace, place: Place) -> str:
    lines = [
        f"{arguments.source} -> {arguments.target}: a new connection, seen from node {place.node}"
    ]
    for step in story.steps:
        lines.append(f"  {step.where:<{_WIDTH}}{step.text}")
        if step.where == "rule" and story.service:
            for note in story.service.endpoints:
                mark = "+" if note.used else "-"
                where = f"on {note.node}" if note.node else ""
                lines.append(f"  {'':<{_WIDTH}}{mark} {note.address:<24} {where:<12} {note.why}")
    lines.append(f"{story.run.answer}: {story.reason}")
    if story.change:
        lines.append(f"to change that: {story.change}")
    lines += [f"problem: {problem}" for problem in place.problems]
    return "\n".join(lines) + "\n"
