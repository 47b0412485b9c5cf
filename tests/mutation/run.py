# SPDX-License-Identifier: Apache-2.0
"""Do the tests notice? Seeds one fault at a time (faults.toml) in a copy of the tree and runs the fast tests on it.

`make mutation` runs all; `python tests/mutation/run.py WORD...` those whose description or file has one of the words,
and `--new` those of which it is not known yet what catches them.
A fault is caught by the first test that fails; one that no test notices survives, and that ends in status 1 unless
faults.toml says why it has to. First of all the copy without a fault has to pass: 2 if it does not. What caught a fault
is written to caught.json, and asked first the next time.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = 2
LIMIT_S = 900
FIRST = [
    "tests/packet/test_answers.py",
    "tests/packet/test_affinity.py",
    "tests/packet/test_endpoints.py",
    "tests/packet/test_random.py",
    "tests/packet/test_policies.py",
    "tests/packet/test_services.py",
]
"""The test files that catch most faults."""
CLOSEST = {
    "snat_source": ("snat_source",),
    "conntrack": ("backend_changes", "floods", "segments", "dsr", "dsr_changes"),
    "ingress": ("foreign", "live_frames", "dsr"),
    "accelerate": ("xdp", "xdp_devices"),
    "accelerate_dsr": ("xdp_dsr",),
    "dsr_option": ("dsr", "dsr_sizes"),
    "dsr_receive": ("dsr", "dsr_sizes", "dsr_changes"),
    "dsr_send": ("dsr", "dsr_sizes", "dsr_changes"),
    "balance": ("maglev", "same_choice", "dsr_changes"),
    "icmp_translate": ("masquerade_parts", "host_routing"),
    "masquerade": ("masquerade", "masquerade_parts"),
    "nat": ("backend_changes", "floods", "snat"),
    "packet": ("foreign", "headers"),
    "departure": ("host_routing",),
    "passage": ("host_routing",),
    "remaining_steps": ("foreign", "fragment_order", "host_routing"),
    "rewrite": ("foreign", "services"),
    "select": ("maglev", "affinity"),
    "sender": ("sources", "sources_on_link", "foreign"),
    "skb/context": ("foreign", "live_frames"),
    "slow_path": ("sources",),
    "tcp_state": ("segments",),
    "xdp": ("xdp", "xdp_dsr"),
    "xdp/context": ("xdp_devices", "seam", "xdp_dsr"),
}
"""By header, the tests of packets that are about it: they are asked before the others."""
OBJECTS = [f"build/bpf/{name}.bpf.o" for name in ("pod", "host", "host_l3", "xdp")]
"""All that these tests load."""
CAUGHT = Path(__file__).with_name("caught.json")
PASSED, FAILED = 0, 1
"""Exit codes of pytest. Any other one says that it could not run."""
CASES = {"KUBYPASS_CASES": "8000", "KUBYPASS_SHRINK": "0", "KUBYPASS_FUZZ": "60000"}


class NotSeededError(Exception):
    """The fault cannot be tried: faults.toml does not fit the tree."""


@dataclass(frozen=True)
class Fault:
    """One of faults.toml."""

    file: str
    find: str
    replace: str
    says: str
    also: str = ""
    """A test that is too slow to be asked about every fault."""
    survives: str = ""
    """Why no test can notice it; empty: one has to."""


NO_FAULT = Fault("src/kubypass/__init__.py", "", "", "the copy as it is")


@dataclass(frozen=True)
class Outcome:
    """What became of a fault."""

    fault: Fault
    caught_by: str
    """A test, or what else went wrong; empty: it survived."""
    seconds: float
    wrong: str = ""
    """Why it could not be tried."""

    @property
    def unnoticed(self) -> bool:
        """No test has caught it, and one should have."""
        return not self.caught_by and (bool(self.wrong) or not self.fault.survives)


def read_faults() -> list[Fault]:
    """All, in the order of the file."""
    with open(Path(__file__).with_name("faults.toml"), "rb") as file:
        return [Fault(**entry) for entry in tomllib.load(file)["fault"]]


def seed(tree: Path, fault: Fault) -> None:
    """Puts the fault into a copy. The text has to be there exactly once: it names one line."""
    path = tree / fault.file
    text = path.read_text()
    if text.count(fault.find) != 1:
        raise NotSeededError(
            f"{fault.file} has {fault.find!r} {text.count(fault.find)} times: {fault.says}"
        )
    path.write_text(text.replace(fault.find, fault.replace))


def copy_tree(target: Path) -> None:
    """The checkout as it is, with what is built."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    built = shutil.ignore_patterns("bench", "kernels", "wheel", "image")
    shutil.copytree(ROOT / "build", target / "build", ignore=built)


def run(fault: Fault) -> Outcome:
    """Seeds one fault and asks the tests."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kubypass-fault-") as name:
        tree = Path(name)
        copy_tree(tree)
        try:
            if fault is not NO_FAULT:
                seed(tree, fault)
            caught = check(tree, fault)
        except NotSeededError as error:
            return Outcome(fault, "", time.monotonic() - started, str(error))
    return Outcome(fault, caught, time.monotonic() - started)


def packet_tests() -> list[str]:
    """Files one by one: of a directory pytest takes them in its own order."""
    every = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/packet/test_*.py"))
    return [*FIRST, *(name for name in every if name not in FIRST), "tests/fuzz"]


def closest_tests(file: str) -> list[str]:
    """The tests that are about a source file."""
    if file.startswith("bpf/"):
        names = CLOSEST.get(file.removeprefix("bpf/").partition(".")[0], ())
        return [f"tests/packet/test_{name}.py" for name in names]
    room = f"tests/unit/{Path(file).parts[2]}"
    return [room] if (ROOT / room).is_dir() else []


def check(tree: Path, fault: Fault) -> str:
    """The first test that fails."""
    tests = closest_tests(fault.file)
    if fault.file.startswith("bpf/"):
        build(tree)
    else:
        tests.append("tests/unit")
    tests += [name for name in packet_tests() if name not in tests]
    if fault.also:
        (tree / ".venv").symlink_to(ROOT / ".venv")
        tests = [*tests, fault.also]
    before = read_caught().get(fault.says)
    return (before and ask(tree, fault, [before])) or ask(tree, fault, tests)


def build(tree: Path) -> None:
    """The objects, with whatever the fault leaves unused."""
    makefile = tree / "Makefile"
    makefile.write_text(makefile.read_text().replace("-Werror ", ""))
    made = subprocess.run(["make", *OBJECTS], cwd=tree, capture_output=True, text=True, check=False)
    if made.returncode:
        raise NotSeededError(f"does not build\n{made.stderr[-2000:]}")


def ask(tree: Path, fault: Fault, tests: list[str]) -> str:
    """The first of these tests that fails; empty where none does, or they are no more."""
    command = [
        str(ROOT / ".venv/bin/pytest"),
        "-q",
        "-x",
        "--tb=line",
        "-p",
        "no:cacheprovider",
        *tests,
    ]
    source = f"{tree / 'src'}:{tree / 'lab/src'}"
    environment = os.environ | CASES | {"PYTHONPATH": source, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        result = subprocess.run(
            command,
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        raise NotSeededError(f"no answer after {LIMIT_S} s") from None
    if result.returncode == PASSED or (result.returncode != FAILED and len(tests) == 1):
        return ""
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", result.stdout, re.MULTILINE)
    if found is None:
        raise NotSeededError(f"{fault.says}: {result.stdout[-2000:]}{result.stderr[-2000:]}")
    return found[1].partition("[")[0]


def read_caught() -> dict[str, str]:
    """What caught the faults the last time, by what they say."""
    return json.loads(CAUGHT.read_text()) if CAUGHT.exists() else {}


def write_caught(outcomes: list[Outcome]) -> None:
    """Keeps it, of faults that are still there."""
    caught = read_caught() | {each.fault.says: each.caught_by for each in outcomes}
    kept = {each.says: caught[each.says] for each in read_faults() if caught.get(each.says)}
    CAUGHT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def told(outcome: Outcome) -> str:
    """One line of the table."""
    fault = outcome.fault
    caught = (
        outcome.wrong
        or outcome.caught_by
        or ("survives, as it must" if fault.survives else "SURVIVED")
    )
    return f"{outcome.seconds:4.0f} s  {fault.file:32} {fault.says:72} {caught}"


def main(words: list[str], *, new: bool = False) -> int:
    """Runs all faults, or those with one of the words, or those of which nothing is known."""
    faults = [
        fault
        for fault in read_faults()
        if not words or any(word in f"{fault.file} {fault.says}" for word in words)
    ]
    if new:
        known = read_caught()
        faults = [fault for fault in faults if fault.says not in known]
    control = run(NO_FAULT)
    if problem := control.wrong or control.caught_by:
        print(f"without a fault it does not pass: {problem}", file=sys.stderr)
        return 2
    outcomes = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for outcome in pool.map(run, faults):
            outcomes.append(outcome)
            write_caught(outcomes)
            print(told(outcome), flush=True)
    survived = sum(outcome.unnoticed for outcome in outcomes)
    excused = sum(bool(fault.survives) for fault in faults)
    print(
        f"{len(faults)} faults, {survived} survived, {excused} of no effect that a test could see"
    )
    return 1 if survived else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "words", nargs="*", help="only faults whose file or description has one of them"
    )
    parser.add_argument("--new", action="store_true", help="only faults of which nothing is known")
    given = parser.parse_args()
    sys.exit(main(given.words, new=given.new))
