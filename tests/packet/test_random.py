# SPDX-License-Identifier: Apache-2.0
"""Random clusters, changes and packets: the whole pipeline from objects to programs, against the reference.

KUBYPASS_CASES sets how many packets, KUBYPASS_SEED which scenarios. A failure is cut down to few steps (in at most
KUBYPASS_SHRINK tries), and these are printed with the seed; `KUBYPASS_SEED=... .venv/bin/pytest
tests/packet/test_random.py` repeats it.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from kubypass.errors import KernelError
from kubypass.kernel.bpf import Map
from kubypass.kernel.program import CHECKSUM_COMPLETE
from tests.packet.lab import Lab
from tests.packet.pipeline import Pipeline, entered, load
from tests.packet.play import Player, Step
from tests.packet.scenario import write
from tests.packet.shrink import shrink, told
from tests.packet.variants import NODE_ADDRESSES, SETTINGS, node

CASES = int(os.environ.get("KUBYPASS_CASES", "40000"))
SEED = int(os.environ.get("KUBYPASS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
TRIES = int(os.environ.get("KUBYPASS_SHRINK", "2000"))
STEPS = 120
OUTCOMES = {
    "translated",
    "untouched",
    "reject",
    "reply",
    "echo",
    "outside",
    "ping outside",
    "direct",
    "DROP_EXTERNAL_CLUSTER_IP",
    "DROP_SOURCE_RANGE",
    "DROP_NO_LOCAL_BACKEND",
    "DROP_NO_BACKEND",
    "DROP_NO_SERVICE",
    "DROP_LOOP",
}


@dataclass(frozen=True)
class Way:
    """How the packets of a scenario come."""

    flags: int = 0
    """The flags of test runs, which say how packets' checksums come."""
    driver: bool = False
    """Whether packets from the network pass XDP first."""


@pytest.fixture(scope="module")
def labs(netns: str) -> Iterator[dict[str, Lab]]:
    """The programs with each of the settings, over one set of maps."""
    maps: dict[str, Map] = {}
    made = {name: load(netns, SETTINGS[name][0], NODE_ADDRESSES, maps) for name in SETTINGS}
    first = next(iter(made.values()))
    with entered(first):
        yield made


def play(labs: dict[str, Lab], name: str, steps: list[Step], way: Way) -> tuple[Counter[str], str]:
    """Packets by outcome, and what was wrong; empty for nothing."""
    pipeline = Pipeline(labs[name], NODE_ADDRESSES, driver=way.driver)
    pipeline.lab.flags = way.flags
    pipeline.start(labs[name], SETTINGS[name][0])
    player = Player.over(pipeline, node(name))
    for number, step in enumerate(steps):
        try:
            player.step(step)
        except Exception as error:  # noqa: BLE001  whatever it is, it is to be cut down and shown
            return player.counted, f"step {number} {told([step])}: {type(error).__name__}: {error}"
    player.counted["by XDP"] += pipeline.by_driver
    return player.counted, ""


def report(labs: dict[str, Lab], name: str, steps: list[Step], way: Way, said: str) -> str:
    """A failure, cut down. Backends are drawn by lot: what does not fail at once may still."""
    kept = shrink(
        steps, lambda some: any(play(labs, name, list(some), way)[1] for _ in range(3)), TRIES
    )
    last = next((found for _ in range(20) if (found := play(labs, name, list(kept), way)[1])), said)
    return f"settings: {name}, {way}\n{told(kept)}\n{last}"


def summed(lab: Lab) -> int:
    """The flag of packets that a device has summed, where test run knows it (Linux 6.11)."""
    try:
        lab.programs["to_uplink"].test_run(bytes(64), flags=CHECKSUM_COMPLETE)
    except KernelError:
        return 0
    return CHECKSUM_COMPLETE


def test_programs_agree_with_the_reference(labs: dict[str, Lab]) -> None:
    print(f"KUBYPASS_SEED={SEED}")
    flag = summed(next(iter(labs.values())))
    counted: Counter[str] = Counter()
    number = 0
    while counted.total() < CASES:
        name, steps = write(f"{SEED}/{number}", STEPS)
        way = (Way(), Way(flags=flag), Way(driver=True))[number % 3]
        seen, said = play(labs, name, steps, way)
        counted += seen
        if said:
            told_short = report(labs, name, steps, way, said)
            pytest.fail(f"KUBYPASS_SEED={SEED} scenario {number}\n{told_short}", pytrace=False)
        number += 1
    print(f"{number} scenarios; packets: {dict(counted)}")
    assert counted.pop("by XDP") > 0
    assert set(counted) == OUTCOMES, "every outcome is met"


def test_a_failure_is_cut_down() -> None:
    """What matters is found among much else, whether its parts are near each other or not."""
    steps = list(range(200))
    assert shrink(steps, lambda some: {17, 150, 151} <= set(some)) == [17, 150, 151]
