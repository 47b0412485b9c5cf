# SPDX-License-Identifier: Apache-2.0
"""`kubypass trace --pcap`: a capture through the real programs, with a line for each packet."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kubypass.cli.input import open_input, read_parts
from kubypass.cli.output import write_output
from kubypass.errors import ConfigError

if TYPE_CHECKING:
    from kubypass.trace.replay import Replayed
    from kubypass.trace.traced_node import TracedNode

_FORMATS = ("text", "json")
_CAPTURES = (".pcap", ".cap")
_NS_PER_S = 1e9
_WORDS = {"dnat": "translated", "accept": "as it is", "drop": "dropped", "reject": "answered"}


def _output(text: str) -> str | Path:
    """A value of `-o`."""
    if text in _FORMATS:
        return text
    if text.endswith(_CAPTURES):
        return Path(text)
    raise argparse.ArgumentTypeError(f"expected text, json or FILE.pcap, found {text!r}")


def add_capture(parser: argparse.ArgumentParser) -> None:
    """Adds `--pcap`, `--hook` and `-o`."""
    group = parser.add_argument_group("a capture instead of one connection")
    group.add_argument(
        "--pcap", type=Path, metavar="FILE",
        help="what tcpdump wrote (pcap or pcapng; `-` for standard input): each packet goes through the program, with "
        "flows as they build up",
    )  # fmt: skip
    group.add_argument(
        "--hook", default="", metavar="HOOK",
        help="where the packets meet the node: from-uplink (default), to-uplink, or from-pod=POD, which is "
        "NAMESPACE/NAME or an address",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", dest="outputs", action="append", default=[], type=_output,
        metavar="{text,json,FILE.pcap}",
        help="how to print (default text); with --pcap also the capture to write, of what leaves the program",
    )  # fmt: skip


def output_format(arguments: argparse.Namespace) -> str:
    """The last format that was given, or text."""
    return next((one for one in reversed(arguments.outputs) if isinstance(one, str)), "text")


def capture_to_write(arguments: argparse.Namespace) -> Path | None:
    """The last capture that was given."""
    return next((one for one in reversed(arguments.outputs) if isinstance(one, Path)), None)


def replay_capture(arguments: argparse.Namespace, node: TracedNode) -> int:
    """Runs the capture; returns 1 where a part of it could not be run."""
    from kubypass.trace.capture import read_capture, write_header, write_record
    from kubypass.trace.replay import Replay

    replay = Replay(node, arguments.hook or "from-uplink")
    found: Counter[str] = Counter()
    target, form = capture_to_write(arguments), output_format(arguments)
    with (
        open_input("--pcap", arguments.pcap) as file,
        _created(target) if target else nullcontext() as out,
    ):
        if out:
            write_header(out)
        start_ns = 0
        for one in replay.run(read_parts("--pcap", arguments.pcap, read_capture(file))):
            start_ns = start_ns or one.time_ns
            found[_word(one)] += 1
            if out and one.sent:
                write_record(out, one.sent)
            write_output(_line(one, start_ns, form))
    if form == "text":
        summary = ", ".join(f"{count} {word}" for word, count in found.most_common())
        write_output(f"{found.total()} packets: {summary or 'none'}\n".encode())
        write_output("".join(f"problem: {one}\n" for one in node.problems).encode())
    return 1 if found["not run"] else 0


def _line(one: Replayed, start_ns: int, output: str) -> bytes:
    if output == "json":
        return (json.dumps(_fields(one)) + "\n").encode()
    seconds = max(one.time_ns - start_ns, 0) / _NS_PER_S
    ends = f"{one.ends.protocol} {one.ends}" if one.ends else ""
    parts = [_service_words(one), f"now {one.after}" if one.translated else "", one.why]
    text = (
        f"{one.number:>7} {seconds:12.6f}  {ends}: {_word(one)}: {'; '.join(filter(None, parts))}"
    )
    return f"{text.replace(' : ', ' ')}\n".encode()


def _word(one: Replayed) -> str:
    return _WORDS[one.answer] if one.answer else "not run"


def _service_words(one: Replayed) -> str:
    if one.service is None:
        return ""
    backend = f" by {one.service.backend}" if one.service.backend else ""
    return f"{one.service.name or 'a service'}:{one.service.port}{backend}"


def _fields(one: Replayed) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "number": one.number,
        "time_ns": one.time_ns,
        "packet": asdict(one.ends) if one.ends else None,
        "verdict": one.answer,
        "program": one.outcome.program if one.outcome else None,
        "outcome": one.outcome.verdict.name.lower() if one.outcome else None,
        "service": asdict(one.service) if one.service else None,
        "translation": asdict(one.after) if one.translated and one.after else None,
        "reason": one.why,
        "bytes": len(one.sent.data) if one.sent else 0,
    }


@contextmanager
def _created(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("wb") as file:
            yield file
    except BrokenPipeError:  # of standard output
        raise
    except OSError as error:
        raise ConfigError(f"-o {path}: {error.strerror}") from None
