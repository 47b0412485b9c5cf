# SPDX-License-Identifier: Apache-2.0
"""One row of a test, which asks a server from somewhere, and what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from kubypass_lab.box.patience import SHORT_S
from tests.box.scene_objects import Json

HERE = Path(__file__).parent
REFUSED = "econnrefused"
SILENT = "no answer"
SILENCES = {"timeout", "etimedout", "eperm", "ehostunreach"}
"""What a dropped packet looks like: a socket hook refuses it, or a router reports that it has no route."""
Expected = set[str] | str
Row = tuple[str, str, Expected]
"""Where a row asks from, what it asks, and what comes of it."""


@dataclass
class AskedRow:
    """A row in one family, and what came of it so far."""

    version: int
    place: str
    to: str
    expected: Expected
    seen: set[str] = field(default_factory=set)

    @property
    def count(self) -> int:
        """How often to ask at once: not so often that a server's buffer overflows."""
        return 2 if isinstance(self.expected, str) else 1 + 2 * len(self.expected)

    def calls(self, address: str, port: int, protocol: str) -> list[Json]:
        """What an Asker is told to do, as often as it should."""
        call: Json = {"how": "ask", "protocol": protocol, "address": address, "port": port}
        if self.expected == SILENT:
            call["timeout_s"] = SHORT_S
        return [call] * self.count

    @property
    def is_short(self) -> bool:
        """Whether asking again may make it right."""
        return not isinstance(self.expected, str) and self.seen < self.expected

    @property
    def found(self) -> Expected:
        if not isinstance(self.expected, str):
            return self.seen
        return SILENT if self.seen <= SILENCES else " ".join(sorted(self.seen))

    def __str__(self) -> str:
        row = f"IPv{self.version} {self.place} -> {self.to}"
        return f"{row}: expected {self.expected}, found {self.found}"


def outcome(answer: Json) -> str:
    return str(answer.get("pod", answer["outcome"]))


def raise_error(done: Future[None]) -> None:
    done.result()


class Asker:
    """A process that dials from one place."""

    def __init__(self, command: list[str]) -> None:
        command = [*command, sys.executable, str(HERE / "asker.py")]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def call(self, calls: list[Json]) -> list[Json]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(calls) + "\n")
        self._process.stdin.flush()
        answers = json.loads(self._process.stdout.readline())
        assert isinstance(answers, list)
        return answers

    def end(self) -> None:
        with self._process:
            assert self._process.stdin
            self._process.stdin.close()
