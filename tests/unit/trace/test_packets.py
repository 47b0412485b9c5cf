# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from kubypass.model.address import parse_address
from kubypass.model.protocol import Protocol
from kubypass.trace.packets import Flow, build, read


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize(
    ("client", "service"), [("203.0.113.9", "10.96.0.10"), ("2001:db8::9", "fd00::10")]
)
def test_a_packet_has_the_addresses_and_ports_of_its_flow(
    client: str, service: str, protocol: Protocol
) -> None:
    flow = Flow(parse_address(client), 45678, parse_address(service), 80, protocol)
    assert read(build(flow)) == flow
    assert read(build(flow.reply(), reply=True)) == flow.reply()
    assert flow.reply().reply() == flow
