# SPDX-License-Identifier: Apache-2.0
"""What a packet costs XDP and tc in a tight loop, with hot caches; `--cost -s` prints it. XDP has to be cheaper.

Each run gives the packet its headers back (restore.bpf.c), whose own cost is subtracted. KUBYPASS_LOOPS is the number
of runs in a round. The figures of ADR 16 come from here.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

import pytest

from kubypass.datapath.loader import XDP_PROGRAM
from kubypass.kernel.bpf import Map
from kubypass.kernel.features import XDP_FRAGS, XDP_HAS_FRAGS
from kubypass.kernel.libbpf import ObjectFile
from kubypass.kernel.program import Program, frame_context, packet_context
from kubypass.model.verdict import ServiceFlag
from tests.house.sources import ROOT
from tests.packet.dsr import balancer
from tests.packet.flows_in_loops import BYTES, FLOWS, PORTS, frame, open_flows
from tests.packet.lab import Lab
from tests.packet.packets import Addresses, segment
from tests.packet.uplink import uplink_index

LOOPS = int(os.environ.get("KUBYPASS_LOOPS", "20000"))
ROUNDS = int(os.environ.get("KUBYPASS_ROUNDS", "5"))


@dataclass
class Loop:
    """One context's wrapper, and the program that it measures."""

    restore: Program
    nothing: Program
    measured: Program
    frames: Map
    target: Map
    context: bytes

    def run(self, program: Program, packet: bytes) -> int:
        """What a run costs with the wrapper, in ns."""
        self.target.update(bytes(4), struct.pack("=I", program.fd))
        return self.restore.test_run(packet, repeat=LOOPS, context=self.context).duration_ns


def load(kind: str, turns: int, measured: Program, context: bytes) -> Loop:
    with ObjectFile(ROOT / f"build/tests/restore.{kind}.bpf.o") as opened:
        opened.set_rodata(struct.pack("=I", turns))
        if kind == "xdp" and XDP_FRAGS.present:  # programs that call each other are alike in this
            for name in opened.program_names:
                opened.set_program_flags(name, XDP_HAS_FRAGS)
        opened.load()
        programs = {name: Program(os.dup(opened.program_fd(name))) for name in opened.program_names}
        maps = {name: Map(os.dup(opened.map_fd(name))) for name in opened.map_names}
    return Loop(
        programs["restore"],
        programs["nothing"],
        measured,
        maps["frames"],
        maps["measured"],
        context,
    )


def measure(lab: Lab, packets: list[bytes]) -> dict[str, int]:
    """What these packets in turn cost each context, in ns."""
    uplink = uplink_index()
    of_tc = lab.programs["from_uplink"], packet_context(uplink)
    of_xdp = lab.programs[XDP_PROGRAM], frame_context(uplink, len(packets[0]))
    loops = {
        kind: load(kind, len(packets), *each) for kind, each in (("skb", of_tc), ("xdp", of_xdp))
    }
    for loop in loops.values():
        for index, packet in enumerate(packets):
            loop.frames.update(struct.pack("=I", index), packet[:BYTES])
    # In turn, so that other work of the machine meets all of them; the least has met the least of it.
    rounds = [
        {
            kind: (loop.run(loop.measured, packets[0]), loop.run(loop.nothing, packets[0]))
            for kind, loop in loops.items()
        }
        for _ in range(ROUNDS)
    ]
    return {
        kind: min(one[kind][0] for one in rounds) - min(one[kind][1] for one in rounds)
        for kind in loops
    }


@pytest.mark.parametrize("turns", [1, FLOWS])
def test_an_open_flow(quiet: Lab, who: Addresses, turns: int) -> None:
    """ACKs to a backend on another node: SNAT, both directions tracked, FIB and next hop."""
    open_flows(quiet, who)
    found = measure(quiet, [frame(who, port, "A", 100, 500) for port in PORTS[:turns]])
    print(f"\nACK, IPv{who.version}, {turns} flows: tc {found['skb']} ns, XDP {found['xdp']} ns")
    assert found["xdp"] < found["skb"]


@pytest.mark.usefixtures("quiet")
def test_an_open_flow_in_dsr_mode(netns: str, who: Addresses) -> None:
    """Segments without the option; with it, packets would grow in each run."""
    lab = balancer(netns, 0, who, "TCP")
    flow = (who.client, PORTS[0], who.node, 30080)
    for flags, seq in (("S", 99), ("A", 100)):
        lab.run("from_uplink", segment(who, flow, flags=flags, seq=seq, payload=""))
    found = measure(lab, [bytes(segment(who, flow, flags="A", seq=100, payload="x" * 40))])
    print(f"\nACK in DSR mode, IPv{who.version}: tc {found['skb']} ns, XDP {found['xdp']} ns")


def test_an_open_flow_to_a_pod_of_this_node(quiet: Lab, who: Addresses) -> None:
    """XDP leaves it to tc: what that costs in vain."""
    quiet.service(who.node, 30080, [who.pod], flags=ServiceFlag.NODE_PORT)
    port = PORTS[0]
    sent = bytes(segment(who, (who.client, port, who.node, 30080), seq=99, payload=""))
    quiet.run("from_uplink", sent)
    answer = segment(who, (who.pod, 8080, who.node, port), flags="SA", seq=499, ack=100, payload="")
    quiet.run("from_pod", answer)
    quiet.run("from_uplink", frame(who, port, "A", 100, 500))
    found = measure(quiet, [frame(who, port, "A", 100, 500)])
    print(
        f"\nACK to a pod here, IPv{who.version}: tc {found['skb']} ns, XDP in vain {found['xdp']} ns"
    )
    assert found["xdp"] < found["skb"]


@pytest.mark.parametrize("flags", ["A", "S"])
def test_nobody_s_packet(quiet: Lab, who: Addresses, flags: str) -> None:
    """What XDP costs all other traffic of the node: here, to a pod by its own address."""
    flow = (who.client, 40000, who.pod, 80)
    packet = bytes(segment(who, flow, flags=flags, payload="x" * 40))
    found = measure(quiet, [packet])
    print(
        f"\n{flags} to a pod, IPv{who.version}: tc {found['skb']} ns, XDP in vain {found['xdp']} ns"
    )
    assert found["xdp"] < found["skb"]


def test_a_new_connection(quiet: Lab, who: Addresses) -> None:
    """SYNs in single runs, each of another client's port: the clock's reading is in both figures."""
    quiet.service(who.node, 30080, [who.remote_pod], flags=ServiceFlag.NODE_PORT)
    uplink = uplink_index()
    packets = [
        bytes(segment(who, (who.client, port, who.node, 30080), payload=""))
        for port in range(30000, 30400)
    ]
    contexts = {
        "from_uplink": packet_context(uplink),
        XDP_PROGRAM: frame_context(uplink, len(packets[0])),
    }
    runs: dict[str, list[int]] = {name: [] for name in contexts}
    for _ in range(ROUNDS):
        for name, context in contexts.items():
            quiet.forget_flows()
            program = quiet.programs[name]
            runs[name] += [program.test_run(one, context=context).duration_ns for one in packets]
    tc, xdp = (sorted(some)[len(some) // 20] for some in runs.values())
    print(
        f"\nSYN, new, IPv{who.version}, 5th percentile of {len(packets) * ROUNDS}: tc {tc} ns, XDP {xdp} ns"
    )
    assert xdp < 1.5 * tc, "both open the connection by the same code"
