# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from kubypass.model.selector import matches, parse_selector

LABELS = {"zone": "a", "service.cilium.io/node": "beefy", "empty": "", "cores": "8"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        (" ", True),
        ("zone", True),
        ("!zone", False),
        ("gone", False),
        ("! gone", True),
        ("zone=a", True),
        ("zone==a", True),
        ("zone = b", False),
        ("zone!=a", False),
        ("zone != b", True),
        ("gone!=a", True),
        ("empty=", True),
        ("empty", True),
        ("zone=", False),
        ("zone in (a, b)", True),
        ("zone in(b)", False),
        ("zone notin (a,b)", False),
        ("gone notin (a,b)", True),
        ("service.cilium.io/node in ( beefy , slow )", True),
        ("service.cilium.io/node == slow", False),
        ("cores>4", True),
        ("cores > 8", False),
        ("cores < 9", True),
        ("gone < 9", False),
        ("zone > 1", False),
        ("zone=a,cores>4,!gone", True),
        ("zone=a , cores>9", False),
        ("in in (a)", False),
        ("notin", False),
    ],
)
def test_selectors(text: str, *, expected: bool) -> None:
    assert matches(parse_selector(text), LABELS) is expected


@pytest.mark.parametrize(
    "text",
    ["zone in", "zone in a", "zone in (a", "zone=a=b", "zone=a b", ",", "zone,", "zone,,a", "!", "!!a", "-a", "a-",
     "zone in (a)b", "cores>many", "cores>", "zone=é", "a/b/c", "x" * 64, "zone a"],
)  # fmt: skip
def test_what_is_no_selector(text: str) -> None:
    with pytest.raises(ValueError, match="is not a label selector"):
        parse_selector(text)
