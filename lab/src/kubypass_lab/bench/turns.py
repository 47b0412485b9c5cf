# SPDX-License-Identifier: Apache-2.0
"""Compares settings of a box's agents in turns: the same requests (paired.c) with each of them, in every round."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kubypass.errors import KubypassError
from kubypass_lab.bench.connect import WORKLOADS
from kubypass_lab.box import agents
from kubypass_lab.box.apply import apply_files
from kubypass_lab.box.box import Box, down, up
from kubypass_lab.box.enter import find_target, run_in
from kubypass_lab.checkout import BUILD, GUIDE

Say = Callable[[str], None]
Times = dict[str, list[float]]
"""By mode, the p50 of each round in microseconds."""
_PAIRED = BUILD / "bench/paired"


@contextmanager
def box_for_turns(name: str, kubekey: Path, say: Say) -> Iterator[Box]:
    """A box with the guide's settings and the workloads of `bench connect`, for the length of a block.

    KubypassError: the client program is not built.
    """
    if not _PAIRED.exists():
        raise KubypassError(f"{_PAIRED} is missing", "run make build")
    with tempfile.TemporaryDirectory() as directory:
        settings, workloads = Path(directory) / "settings.yaml", Path(directory) / "workloads.yaml"
        settings.write_text((GUIDE / "cilium-config.yaml").read_text())
        workloads.write_text(WORKLOADS)
        try:
            box = up(name, kubekey, settings, say)
            apply_files(box, [workloads], say)
            yield box
        finally:
            down(name, say)


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a pod asks."""

    title: str
    pod: str
    """The name of the pod that asks."""
    address: str
    """Address and port; IPv6 in brackets."""


def measure_turns(
    box: Box,
    modes: Mapping[str, str],
    targets: Iterable[Target],
    *,
    rounds: int,
    requests: int,
    say: Say,
) -> list[dict[str, object]]:
    """A row for each target and kind of connection. `modes` adds lines to the settings; the first is compared with."""
    settings = box.settings
    base, found = settings.read_text(), dict[tuple[str, str], Times]()
    every = tuple(targets)
    for number in range(rounds):
        for mode, more in modes.items():
            settings.write_text(f"{base}\n{more}")
            agents.stop_agents(box.paths)
            agents.start_agents(box.paths, box.topology, settings)
            for target in every:
                for kind, words in (("new", []), ("keep-alive", ["--keepalive"])):
                    us = _ask(box, target, [*words, "--rounds", str(requests)])
                    found.setdefault((target.title, kind), {}).setdefault(mode, []).append(us)
        say(f"round {number + 1} of {rounds}")
    settings.write_text(base)
    return [_row(*what, next(iter(modes)), times) for what, times in found.items()]


def _ask(box: Box, target: Target, words: list[str]) -> float:
    command = ["taskset", "-c", "0", str(_PAIRED), *words, f"direct={target.address}"]
    done = run_in(find_target(box, f"pod/{target.pod}"), command)
    if done.returncode:
        raise KubypassError(f"paired: {done.stderr.strip()}")
    return float(json.loads(done.stdout)["direct"]["p50_us"])


def _row(title: str, kind: str, first: str, times: Times) -> dict[str, object]:
    """The median p50 of each mode, and the ratios of rounds: p50 of the first mode / p50 of the mode."""
    ratios = {
        mode: [one / us for one, us in zip(times[first], some, strict=True)]
        for mode, some in times.items()
    }
    return {
        "backend": title,
        "connections": kind,
        "p50_us": {mode: round(statistics.median(some), 1) for mode, some in times.items()},
        "ratio": {
            mode: {
                "median": round(statistics.median(some), 3),
                "min": round(min(some), 3),
                "max": round(max(some), 3),
            }
            for mode, some in ratios.items()
        },
    }
