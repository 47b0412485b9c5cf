# SPDX-License-Identifier: Apache-2.0
"""How many live frames a second XDP and tc forward, with the generator on the same core: `--cost -s` prints it.

The generator sends ACKs of open flows into the uplink, a veth; what comes back is dropped at its other end.
KUBYPASS_LIVE is the number of frames in a round. The figures of ADR 16 come from here.
"""

from __future__ import annotations

import ctypes
import os
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from kubypass.datapath.loader import XDP_PROGRAM
from kubypass.errors import KernelError
from kubypass.kernel.attach.clsact import ClsactHook, remove_clsact
from kubypass.kernel.attach.xdp import XdpHook, XdpMode
from kubypass.kernel.bpf import Map, attributes_of, call, check
from kubypass.kernel.libbpf import ObjectFile
from kubypass.kernel.program import Program
from kubypass.model.verdict import Hook, Verdict
from tests.house.sources import ROOT
from tests.packet.flows_in_loops import BYTES, FLOWS, PORTS, frame, open_flows
from tests.packet.lab import Lab
from tests.packet.packets import V4
from tests.packet.uplink import run_inside, uplink_index

FRAMES = int(os.environ.get("KUBYPASS_LIVE", "65536"))
ROUNDS = int(os.environ.get("KUBYPASS_ROUNDS", "5"))
_TEST_RUN, _LIVE = 10, 1 << 1


@dataclass
class Tools:
    """The programs around the one that is measured."""

    generate: Program
    nothing: Program
    sink: Program
    frames: Map

    def send(self, ifindex: int, packet: bytes) -> float:
        """Sends the frames of a round; returns how many a second, in millions."""
        data = ctypes.create_string_buffer(packet, len(packet))
        # struct of BPF_PROG_TEST_RUN: the run repeats, without anything that comes back.
        context = ctypes.create_string_buffer(
            struct.pack("=IIIIII", 0, len(packet), 0, ifindex, 0, 0)
        )
        attributes = attributes_of(
            "=IIIIQQIIIIQQIII", self.generate.fd, 0, len(packet), 0, ctypes.addressof(data), 0, FRAMES, 0, 24, 0,
            ctypes.addressof(context), 0, _LIVE, 0, 64,
        )  # fmt: skip
        started = time.perf_counter()
        check("send", "live frames", call(_TEST_RUN, attributes))
        return FRAMES / (time.perf_counter() - started) / 1e6


def load(out: int) -> Tools:
    with ObjectFile(ROOT / "build/tests/restore.xdp.bpf.o") as opened:
        opened.set_rodata(struct.pack("=II", FLOWS, out))
        opened.load()
        names = ("generate", "nothing", "sink")
        programs = {name: Program(os.dup(opened.program_fd(name))) for name in names}
        return Tools(**programs, frames=Map(os.dup(opened.map_fd("frames"))))


@contextmanager
def attached(lab: Lab, what: str) -> Iterator[None]:
    """XDP in one of its modes, or tc; veth takes live frames where a program or GRO makes it poll."""
    with ExitStack() as stack:
        if what == "native":
            stack.callback(
                XdpHook(uplink_index(), XdpMode.NATIVE).attach(lab.programs[XDP_PROGRAM]).close
            )
        else:
            run_inside(lab.path, "ethtool", "-K", "eth0", "gro", "on")
            stack.callback(run_inside, lab.path, "ethtool", "-K", "eth0", "gro", "off")
        if what == "tc":
            ClsactHook(uplink_index(), "ingress").attach(lab.programs["from_uplink"])
            stack.callback(remove_clsact, uplink_index())
        yield


def test_the_rate_of_open_flows(quiet: Lab) -> None:
    who = V4
    open_flows(quiet, who)
    far = int(run_inside(quiet.path, "ip", "-o", "link", "show", "far").split(":")[0])
    tools = load(far)
    packets = [frame(who, port, "A", 100, 500) for port in PORTS]
    for index, packet in enumerate(packets):
        tools.frames.update(struct.pack("=I", index), packet[:BYTES])
    best = {"native": 0.0, "tc": 0.0}
    hooks = {"native": Hook.XDP, "tc": Hook.FROM_UPLINK}
    link = XdpHook(far, XdpMode.NATIVE).attach(tools.sink)
    try:
        for _ in range(ROUNDS):
            for what, hook in hooks.items():
                with attached(quiet, what):
                    before = quiet.counts()
                    try:
                        best[what] = max(best[what], tools.send(far, packets[0]))
                    except KernelError as error:
                        pytest.skip(f"this kernel sends no live frames (Linux 5.18): {error}")
                    after = quiet.counts()
                    forwarded = (after - before)[hook, Verdict.TO_NETWORK]
                    assert forwarded >= FRAMES * 0.9, (what, forwarded)
    finally:
        link.detach()
        link.close()
    print(
        f"\n{FLOWS} open flows, IPv4, one core: XDP {best['native']:.2f} Mpps, tc {best['tc']:.2f} Mpps: "
        f"{best['native'] / best['tc']:.1f} times"
    )
    assert best["native"] > best["tc"]
