# SPDX-License-Identifier: Apache-2.0
"""A command says what it is busy with on a terminal, and elsewhere only where that takes long."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time

import pytest

from kubypass.cli.progress import progress
from kubypass_lab.box.patience import DEADLINE_S

SCRIPT = """
from kubypass.cli.progress import progress
with progress() as shown:
    shown.say("loading one")
    shown.say("loading two")
"""


def test_a_short_command_says_nothing_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as shown:
        shown.say("loading")
    assert capsys.readouterr() == ("", "")


def test_a_long_one_says_what_it_does_now_and_then_each_step(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = ""
    with progress(patience_s=0.05) as shown:
        shown.say("loading one")
        shown.say("loading two")
        deadline = time.monotonic() + DEADLINE_S
        while not said:
            assert time.monotonic() < deadline
            said += capsys.readouterr().err
            time.sleep(0.01)
        shown.say("loading three")
    said += capsys.readouterr().err
    assert said == "kubypass: loading two\nkubypass: loading three\n"


def test_a_terminal_sees_each_step_at_once() -> None:
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", SCRIPT], stderr=theirs, check=True, timeout=DEADLINE_S)
    os.close(theirs)
    assert os.read(ours, 4096) == b"kubypass: loading one\r\nkubypass: loading two\r\n"
    os.close(ours)
