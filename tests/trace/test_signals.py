# SPDX-License-Identifier: Apache-2.0
"""How `kubypass trace --batch` ends before its input does."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from signal import Signals

import pytest

from kubypass.kernel.cgroup import mount_point
from kubypass_lab.box.patience import DEADLINE_S
from tests.program import KUBYPASS
from tests.trace.cases import CLUSTER_IP, NODE, POD, Case, errors
from tests.waiting import wait

BATCH = ["env", "--default-signal=INT,TERM,HUP", KUBYPASS, "trace", "--batch", "-", "-o", "json"]
LINE = json.dumps(Case().ask(POD, CLUSTER_IP, 80)).encode() + b"\n"
ENDS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
PIPE = subprocess.PIPE
NODE_ME = {
    "metadata": {"name": "me"},
    "status": {"addresses": [{"type": "InternalIP", "address": NODE}]},
}


@pytest.mark.parametrize(("number", "code"), ENDS)
@pytest.mark.parametrize("answered", [True, False], ids=["later", "while it loads"])
def test_a_signal_leaves_nothing_behind(number: Signals, code: int, answered: bool) -> None:
    with subprocess.Popen(BATCH, stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(LINE)
        process.stdin.flush()
        made = mount_point() / f"kubypass-trace-{process.pid}"
        wait(made.exists, "a cgroup of its own")
        if answered:
            assert process.stdout.readline()
        process.send_signal(number)
        assert process.wait(timeout=DEADLINE_S) == code
        assert process.stderr.read() == b""
    assert not made.exists()


def test_a_reader_that_has_enough_ends_it_quietly(tmp_path: Path) -> None:
    cases = tmp_path / "cases.jsonl"
    cases.write_bytes(2000 * LINE)
    argv = [KUBYPASS, "trace", "--batch", str(cases), "-o", "json"]
    with subprocess.Popen(argv, stdout=PIPE, stderr=PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline()
        process.stdout.close()
        assert (process.wait(timeout=DEADLINE_S), process.stderr.read()) == (141, b"")


def test_a_full_disk_is_the_outputs(tmp_path: Path) -> None:
    """The reader goes away during the answers to cases, or during an explanation."""
    (tmp_path / "nodes.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "Node", **NODE_ME})
    )
    story = ["--manifests", tmp_path, "--from", "203.0.113.9", "--to", "10.0.0.1:80"]
    for argv in (["--batch", "-"], story):
        with open("/dev/full", "wb") as full:
            answer = subprocess.run(
                [KUBYPASS, "trace", *argv], input=LINE, stdout=full, stderr=PIPE, check=False
            )
        assert answer.returncode == 1
        said = "kubypass: the output could not be written: No space left on device"
        assert errors(answer.stderr.decode()) == [said]


@pytest.mark.parametrize(("name", "why"), [("none", "No such file"), (".", "Is a directory")])
def test_input_that_cannot_be_read(tmp_path: Path, name: str, why: str) -> None:
    argv = [KUBYPASS, "trace", "--batch", str(tmp_path / name)]
    answer = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (answer.returncode, len(answer.stderr.splitlines())) == (2, 1)
    assert why in answer.stderr
