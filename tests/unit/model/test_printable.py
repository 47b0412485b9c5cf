# SPDX-License-Identifier: Apache-2.0
"""Names from outside are shown on one line, and cannot command a terminal."""

from __future__ import annotations

import os

import pytest

from kubypass.agent.log import log
from kubypass.api.metric import Metric
from kubypass.model.printable import printable
from kubypass.model.problem import Problem


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("eth0", "eth0"),
        ("größe 網", "größe 網"),
        ("a\nb", r"a\nb"),
        ("\x1b[31m", r"\x1b[31m"),
        (os.fsdecode(b"web-\xff.yaml"), r"web-\udcff.yaml"),
    ],
)
def test_how_names_are_shown(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert str(Problem(name, name)) == f"{shown}: {shown}"


def test_a_name_makes_no_second_line_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    log("uplinks", devices="a\n2026-01-01T00:00:00Z ERROR forged \udcff")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(r'devices="a\n2026-01-01T00:00:00Z ERROR forged \udcff"')


def test_a_label_cannot_end_early() -> None:
    metric = Metric("m", "gauge", "text", (("", (("device", 'a"} 1\nb\\'),), 2.0),))
    assert metric.lines()[-1] == r'm{device="a\"} 1\nb\\"} 2.0'
