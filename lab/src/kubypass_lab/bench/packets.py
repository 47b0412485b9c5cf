# SPDX-License-Identifier: Apache-2.0
"""Measures ns per packet on each path, here and at another commit: rows of tests/packet, in turn within one session.

It needs a git checkout. A row's figure is the least of its single test runs and of all rounds, less that of a packet
that is not IP: other work of the machine only adds to it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from kubypass.errors import KubypassError
from kubypass_lab.checkout import CHECKOUT, import_path

_ROWS = ("tests/packet/test_forward.py", "tests/packet/test_services.py")
_PATHS = "pod_to or node_port_with or own_network or own_backend or kept_apart or another_nodes or get_different"
"""Rows that measure one path each; other rows repeat packets to compare them."""
_LINE = re.compile(r"^ *(-?\d+)  (\w+) +(test_\S+)$")
Costs = dict[tuple[str, str], list[int]]
"""Maps row and program to the ns of the row's packets, in ascending order."""


def _run(command: list[str], where: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": import_path(where)}
    done = subprocess.run(
        command, cwd=where, env=environment, capture_output=True, text=True, check=False
    )
    # Exit code 1 means that rows failed, because the commits differ in behaviour; the other rows count.
    if done.returncode not in (0, 1):
        raise KubypassError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def _costs(where: Path) -> Costs:
    options = ["-q", "--cost", "-p", "no:cacheprovider", "--tb=no", "-k", _PATHS]
    found: Costs = {}
    for line in _run([sys.executable, "-m", "pytest", *options, *_ROWS], where).splitlines():
        if match := _LINE.match(line):
            found.setdefault((match[3], match[2]), []).append(int(match[1]))
    return {key: sorted(values) for key, values in found.items()}


def _least(rounds: list[Costs]) -> Costs:
    return {
        key: [min(some) for some in zip(*(one[key] for one in rounds), strict=True)]
        for key in set.intersection(*(set(one) for one in rounds))
        if len({len(one[key]) for one in rounds}) == 1
    }


def measure(base: str, rounds: int) -> dict[str, object]:
    """The ns of all rows that both commits have."""
    before: list[Costs] = []
    after: list[Costs] = []
    with tempfile.TemporaryDirectory(prefix="kubypass-") as name:
        tree = Path(name)
        archive = tree / "base.tar"
        _run(["git", "archive", "-o", str(archive), base], CHECKOUT)
        _run(["tar", "-xf", str(archive)], tree)
        (tree / "build").mkdir()
        (tree / "build/packages").touch()  # this checkout has installed the same packages
        _run(["make", "-s", *(f"build/bpf/{n}.bpf.o" for n in ("pod", "host", "socket"))], tree)
        for _ in range(rounds):
            before.append(_costs(tree))
            after.append(_costs(CHECKOUT))
    old, new = _least(before), _least(after)
    rows = [
        {"row": key[0], "program": key[1], "before_ns": was, "after_ns": now}
        for key in sorted(old.keys() & new.keys())
        if len(old[key]) == len(new[key])
        for was, now in zip(old[key], new[key], strict=True)
    ]
    return {"base": base, "rounds": rounds, "rows": rows}
