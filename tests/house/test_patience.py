# SPDX-License-Identifier: Apache-2.0
"""No test and no part of the lab has a deadline of its own: a slow machine fails at the shortest one."""

from __future__ import annotations

import re

from tests.house.sources import ROOT, TEST_FILES, name_of

_OWN = re.compile(
    r"^ *_?(?:DEADLINE|PATIENCE)\w* *(?::[^=\n]*)?= *[\d.]+$|monotonic\(\) \+ \d\d\b(?! \*)|timeout=60\b",
    re.MULTILINE,
)
_SHARED = ROOT / "lab/src/kubypass_lab/box/patience.py"


def test_deadlines_are_the_shared_ones() -> None:
    for own in ("DEADLINE_S = 60\n", "_DEADLINE_S: float = 60.0", "time.monotonic() + 60"):
        assert _OWN.search(own)
    sources = [*TEST_FILES, *(ROOT / "lab/src").rglob("*.py")]
    found = {
        name_of(path): _OWN.findall(path.read_text())
        for path in sources
        if path.suffix == ".py" and path not in (_SHARED, ROOT / "tests/house/test_patience.py")
    }
    assert not {file: texts for file, texts in found.items() if texts}, (
        "use kubypass_lab.box.patience"
    )
