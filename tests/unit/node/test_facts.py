# SPDX-License-Identifier: Apache-2.0
"""In which families a node has its primary address and no other."""

from __future__ import annotations

import pytest

from kubypass.model.address import family, parse_address
from kubypass.model.constants import FAMILY_IPV4, FAMILY_IPV6
from kubypass.node.facts import NodeState

V4, V6, LINK_LOCAL = "192.168.1.31", "fd00::31", "fe80::1"
BOTH = FAMILY_IPV4 | FAMILY_IPV6


@pytest.mark.parametrize(
    ("primary", "addresses", "only"),
    [
        ([V4, V6], [V4, V6, LINK_LOCAL], BOTH),
        ([V4, V6], [V4, V6, "192.168.1.131"], FAMILY_IPV6),
        ([V4, V6], [V4, V6, "fd00::131"], FAMILY_IPV4),
        ([V4], [V4], FAMILY_IPV4),
        ([V4], [V4, "169.254.20.10"], 0),
        ([V4], [V4, V6], FAMILY_IPV4),  # an address of a device that takes no part
        ([V4], ["192.168.2.31"], 0),
        ([], [], 0),
    ],
)
def test_only_families(primary: list[str], addresses: list[str], only: int) -> None:
    found = [parse_address(text) for text in primary]
    node = NodeState(
        {}, (), tuple(map(parse_address, addresses)), {family(each): each for each in found},
        frozenset(), (32768, 60999),
    )  # fmt: skip
    assert node.only_families == only
