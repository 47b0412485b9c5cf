# SPDX-License-Identifier: Apache-2.0
"""Packets of DSR as `trace` reads them: with an option, or in Geneve."""

from __future__ import annotations

import pytest

from kubypass.model.address import parse_address
from kubypass.model.protocol import Protocol
from kubypass.trace.packets import Flow, build, read
from kubypass.trace.tunnel import inside_tunnel, tunnel_end
from tests.packet.dsr import told
from tests.packet.geneve import geneve, tunnelled
from tests.packet.packets import IN, V4, V6, Addresses, segment

FAMILIES = pytest.mark.parametrize("who", [V4, V6], ids=["ipv4", "ipv6"])


def flow(who: Addresses, protocol: Protocol = Protocol.TCP) -> Flow:
    return Flow(parse_address(who.client), 40000, parse_address(who.remote_pod), 8080, protocol)


@FAMILIES
def test_what_is_inside(who: Addresses) -> None:
    inner = segment(who, (who.client, 40000, who.remote_pod, 8080))
    frame = bytes(tunnelled(who, inner, (who.service, 80), IN))
    assert inside_tunnel(frame) == bytes(inner)
    assert parse_address(tunnel_end(frame)) == parse_address(who.other_node)
    assert read(frame) == flow(who)


@FAMILIES
def test_behind_an_option(who: Addresses) -> None:
    there = (who.client, 40000, who.remote_pod, 8080)
    assert read(bytes(told(who, there, (who.service, 80)))) == flow(who)
    sent = told(who, there, (who.service, 80), protocol="UDP")
    assert read(bytes(sent)) == flow(who, Protocol.UDP)


@FAMILIES
def test_any_other_frame_is_what_it_is(who: Addresses) -> None:
    plain = build(flow(who))
    assert (inside_tunnel(plain), tunnel_end(plain), read(plain)) == (plain, "", flow(who))
    inner = segment(who, (who.client, 40000, who.remote_pod, 8080))
    other = geneve((who.service, 80), who.version).replace(b"\x01\x4b", b"\x01\x00", 1)
    frame = bytes(tunnelled(who, inner, (who.service, 80), IN, header=other))
    assert (inside_tunnel(frame), tunnel_end(frame)) == (frame, "")
    whole = bytes(tunnelled(who, inner, (who.service, 80), IN))
    for length in (0, 13, 14, 34, 60, 75, 90):
        inside_tunnel(whole[:length])
