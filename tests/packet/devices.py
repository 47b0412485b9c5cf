# SPDX-License-Identifier: Apache-2.0
"""Real devices of the lab with the programs attached: its uplink, a pod's veth, and a tun device."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from scapy.layers.l2 import Ether
from scapy.packet import Packet

from kubypass.datapath.loader import load_programs
from kubypass.kernel.attach.clsact import ClsactHook, remove_clsact
from kubypass.kernel.netns import create, inside
from kubypass.kernel.program import Program
from kubypass.model.verdict import Hook, Verdict
from kubypass_lab.box.patience import DEADLINE_S
from tests.packet.lab import Lab, config
from tests.packet.packets import POD_MAC, V4, V6, VETH_MAC
from tests.packet.uplink import run_inside, uplink_index

ETH_P_ALL, SOL_PACKET, AUXDATA, HAS_TAG = 3, 263, 8, 0x10
TUN_WITHOUT_HEADER, TUNSETIFF = 0x1001, 0x400454CA
SIZES = {"services": 4096, "flows": 4096, "backends": 256, "slots": 256, "fragments": 1024}


@dataclass
class DeviceLab:
    """The lab with programs attached to its uplink, a pod's veth and a tun device."""

    lab: Lab
    far: socket.socket
    """The other end of the uplink."""
    pod: socket.socket
    """The pod's end of its veth."""
    tun: int
    """The other end of the tun device: packets without Ethernet header."""

    def verdicts(self, hook: Hook, send: Callable[[], object]) -> list[Verdict]:
        """What this hook's program counted for the packet that `send` sends."""
        return verdicts(self.lab, hook, send)


def verdicts(lab: Lab, hook: Hook, send: Callable[[], object]) -> list[Verdict]:
    """What this hook's program counts for the packet that `send` sends."""
    before = lab.counts()
    send()
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        after = lab.counts()
        after.subtract(before)
        found = [
            verdict for (counted, verdict), count in after.items() if counted == hook and count
        ]
        if found:
            return found
    raise AssertionError("nothing was counted")


def same(expected: bytes) -> Callable[[bytes], bool]:
    return lambda frame: frame == expected


def tagged(packet: Packet, *tags: Packet) -> bytes:
    frame = Ether(src=packet.src, dst=packet.dst)
    for tag in tags:
        frame = frame / tag
    return bytes(frame / packet.payload)


def receive(opened: socket.socket | int, wanted: Callable[[bytes], bool]) -> tuple[bytes, bool]:
    """The first frame that is wanted, and whether it has a tag beside it."""
    deadline = time.monotonic() + DEADLINE_S
    while select.select([opened], [], [], max(0.0, deadline - time.monotonic()))[0]:
        if isinstance(opened, int):
            frame, tagged = os.read(opened, 65536), False
        else:
            frame, extra, _, _ = opened.recvmsg(65536, 256)
            tagged = any(struct.unpack_from("=I", data)[0] & HAS_TAG for _, _, data in extra)
        if wanted(frame):
            return frame, tagged
    raise AssertionError("no such frame came")


def packet_socket(path: str, device: str) -> socket.socket:
    with inside(path):
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        opened.bind((device, ETH_P_ALL))
    opened.setsockopt(SOL_PACKET, AUXDATA, 1)
    return opened


def attach(path: str, ifindex: int, programs: dict[str, Program]) -> None:
    with inside(path):
        for direction, program in programs.items():
            ClsactHook(ifindex, direction).attach(program)


@contextmanager
def tun(path: str, name: str) -> Iterator[int]:
    with inside(path):
        opened = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        with inside(path):
            fcntl.ioctl(
                opened, TUNSETIFF, struct.pack("16sH22x", name.encode(), TUN_WITHOUT_HEADER)
            )
        yield opened
    finally:
        os.close(opened)


def index(path: str, device: str) -> int:
    return int(run_inside(path, "ip", "-o", "link", "show", device).split(":")[0])


_SETUP = f"""
link add pod0 address {VETH_MAC} type veth peer name eth0 address {POD_MAC} netns {{pod}}
link set pod0 addrgenmode none
link set pod0 up
addr add 10.30.0.11/24 dev tun0
addr add fd00:10:30::11/64 dev tun0 nodad
link set tun0 up
route add {V4.client} dev tun0
route add {V6.client} dev tun0
"""
_POD = """
link set eth0 addrgenmode none
link set eth0 up
"""
"""The kernel's own addresses would send packets, which would be counted."""


@contextmanager
def open_devices(loaded: Lab) -> Iterator[DeviceLab]:
    """Attaches programs to devices. The client is behind the tun device; the remote pod is behind the uplink."""
    path = loaded.path
    l3 = load_programs(
        ("host_l3",), loaded.maps, SIZES, lambda opened: opened.set_rodata(config().pack())
    )
    with ExitStack() as stack:
        descriptor = create()
        stack.callback(os.close, descriptor)
        pod = f"/proc/{os.getpid()}/fd/{descriptor}"
        opened = stack.enter_context(tun(path, "tun0"))
        run_inside(path, "ip", "-batch", "-", lines=_SETUP.format(pod=pod))
        run_inside(pod, "ip", "-batch", "-", lines=_POD)
        stack.callback(run_inside, path, "ip", "link", "delete", "pod0")
        names = {"ingress": "from_uplink", "egress": "to_uplink"}
        ours = {way: loaded.programs[name] for way, name in names.items()}
        bare = {way: l3[name] for way, name in names.items()}
        of_pod = {"ingress": loaded.programs["from_pod"], "egress": loaded.programs["to_pod"]}
        for ifindex, programs in (
            (uplink_index(), ours),
            (index(path, "tun0"), bare),
            (index(path, "pod0"), of_pod),
        ):
            attach(path, ifindex, programs)
        far = stack.enter_context(packet_socket(path, "far"))
        peer = stack.enter_context(packet_socket(pod, "eth0"))
        yield DeviceLab(loaded, far, peer, opened)
        with inside(path):
            remove_clsact(uplink_index())
