# SPDX-License-Identifier: Apache-2.0
"""Many open connections to a NodePort, and the frames that go on with them."""

from __future__ import annotations

from kubypass.kernel.program import packet_context
from kubypass.model.verdict import FlowState, ServiceFlag
from tests.packet.lab import Lab
from tests.packet.packets import Addresses, segment
from tests.packet.uplink import uplink_index

FLOWS = 1024
BYTES = 80
"""How much of a frame restore.bpf.c writes."""
PORTS = range(20000, 20000 + FLOWS)


def frame(who: Addresses, port: int, flags: str, seq: int, ack: int) -> bytes:
    flow = (who.client, port, who.node, 30080)
    return bytes(segment(who, flow, flags=flags, seq=seq, ack=ack, payload="x" * 40))


def open_flows(lab: Lab, who: Addresses) -> None:
    """Handshakes of all ports with a backend on another node."""
    lab.service(who.node, 30080, [who.remote_pod], flags=ServiceFlag.NODE_PORT)
    for port in PORTS:
        answer = (who.remote_pod, 8080, who.node, port)
        for packet in (
            segment(who, (who.client, port, who.node, 30080), seq=99, payload=""),
            segment(who, answer, flags="SA", seq=499, ack=100, payload=""),
            frame(who, port, "A", 100, 500),
        ):
            lab.programs["from_uplink"].test_run(
                bytes(packet), context=packet_context(uplink_index())
            )
    states = [flow.state for flow in lab.flows().values()]
    assert states == [FlowState.ESTABLISHED] * 2 * FLOWS
