# SPDX-License-Identifier: Apache-2.0
"""How `kubypass trace --batch` ends before its input does."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest
from cases import CLUSTER_IP, KUBYPASS, POD, Case

from kubypass.kernel.cgroup import mount_point

BATCH = ["env", "--default-signal=INT,TERM,HUP", KUBYPASS, "trace", "--batch", "-", "-o", "json"]
LINE = json.dumps(Case().ask(POD, CLUSTER_IP, 80)).encode() + b"\n"
ENDS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
PIPE = subprocess.PIPE


@pytest.mark.parametrize(("number", "code"), ENDS)
@pytest.mark.parametrize("answered", [True, False], ids=["later", "while it loads"])
def test_a_signal_leaves_nothing_behind(number, code, answered):
    with subprocess.Popen(BATCH, stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(LINE)
        process.stdin.flush()
        made = mount_point() / f"kubypass-trace-{process.pid}"
        deadline = time.monotonic() + 20
        while not made.exists():
            assert time.monotonic() < deadline
        if answered:
            assert process.stdout.readline()
        process.send_signal(number)
        assert process.wait(timeout=20) == code
        assert process.stderr.read() == b""
    assert not made.exists()
