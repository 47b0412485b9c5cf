# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from kubypass.model.address import UNSPECIFIED, parse_address
from kubypass.model.protocol import Protocol
from kubypass.plan.frontend_keys import (
    address_of,
    format_key,
    frontend_key,
    is_wildcard,
    wildcard_key,
)
from kubypass.plan.items import PlannedFrontend


@pytest.mark.parametrize(
    ("address", "version", "text"),
    [("192.0.2.1", 4, "192.0.2.1:30080/UDP"), ("2001:db8::1", 6, "[2001:db8::1]:30080/UDP")],
)
def test_keys(address: str, version: int, text: str) -> None:
    key = frontend_key(PlannedFrontend(parse_address(address), 30080, Protocol.UDP, 0))
    assert (address_of(key), format_key(key)) == (parse_address(address), text)
    wildcard = wildcard_key(key)
    assert not is_wildcard(key)
    assert is_wildcard(wildcard)
    assert address_of(wildcard) == UNSPECIFIED[version]
    assert format_key(wildcard) == "node port 30080/UDP"
    assert wildcard_key(wildcard) == wildcard
