# SPDX-License-Identifier: Apache-2.0
"""Standard output that cannot be written is one line on standard error, whatever the command."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kubypass_lab.box.patience import DEADLINE_S
from tests.program import KUBYPASS

COMMANDS = [["version"], ["--help"], ["trace", "--help"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_full_disk(command: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [KUBYPASS, *command], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert done.stderr == b"kubypass: the output could not be written: No space left on device\n"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_reader_that_is_gone(command: list[str]) -> None:
    with subprocess.Popen(
        [KUBYPASS, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert (process.wait(timeout=DEADLINE_S), process.stderr.read()) == (141, b"")
