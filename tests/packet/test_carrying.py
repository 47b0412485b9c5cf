# SPDX-License-Identifier: Apache-2.0
"""While connections of maps with another layout are carried over, packets of those not known yet wait."""

from __future__ import annotations

import struct
import time

import pytest
from lab import PASS, REDIRECT, SHOT, segment

from kubypass.model.verdict import Hook, ServiceFlag, Verdict

SECOND_NS = 1_000_000_000


@pytest.fixture
def carrying(lab):
    def carry(seconds: int) -> None:
        until = time.monotonic_ns() + seconds * SECOND_NS
        lab.maps["carrying"].update(struct.pack("=I", 0), struct.pack("=Q", until))

    carry(60)
    yield carry
    lab.maps["carrying"].update(struct.pack("=I", 0), bytes(8))


def waits(lab, program, packet):
    result = lab.run(program, packet)
    (_, verdict), *_ = result.counted
    assert (result.code == SHOT) == (verdict == Verdict.DROP_CARRYING)
    return result.code == SHOT


def test_clients_backends_elsewhere_and_backends_here(lab, who, carrying):
    del carrying
    lab.service(who.node, 30080, [who.remote_pod], flags=ServiceFlag.NODE_PORT)
    ways = {
        "from_uplink": [(who.client, 40000, who.node, 30080), (who.remote_pod, 8080, who.node, 41000)],
        "from_pod": [(who.pod, 8080, who.client, 40000)],
    }  # fmt: skip
    for program, flows in ways.items():
        for flow in flows:
            assert waits(lab, program, segment(who, flow, protocol="TCP", flags="A"))
            assert not waits(lab, program, segment(who, flow, protocol="TCP", flags="S"))
            assert not waits(lab, program, segment(who, flow, protocol="UDP"))
    assert lab.run("from_uplink", segment(who, ways["from_uplink"][0], flags="A")).code == REDIRECT


def test_pods_with_each_other_do_not(lab, who, carrying):
    del carrying
    for program, flow in (
        ("from_pod", (who.pod, 8080, who.second_pod, 40000)),
        ("from_uplink", (who.remote_pod, 8080, who.pod, 40000)),
    ):
        assert not waits(lab, program, segment(who, flow, protocol="TCP", flags="A"))


def test_not_for_ever(lab, who, carrying):
    flow = (who.remote_pod, 8080, who.node, 40000)
    carrying(-1)
    assert lab.run("from_uplink", segment(who, flow, protocol="TCP", flags="A")).code == PASS


def test_it_is_counted(lab, who, carrying):
    del carrying
    flow = (who.remote_pod, 8080, who.node, 40000)
    counted = lab.run("from_uplink", segment(who, flow, protocol="TCP", flags="A")).counted
    assert counted == {(Hook.FROM_UPLINK, Verdict.DROP_CARRYING): 1}
