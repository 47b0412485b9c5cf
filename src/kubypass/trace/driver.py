# SPDX-License-Identifier: Apache-2.0
"""What XDP makes of a traced packet, where the node's uplink has it: the real program, over the maps of the trace."""

from __future__ import annotations

import struct

from kubypass.datapath import layout
from kubypass.datapath.loader import XDP_OBJECT, XDP_PROGRAM, load_programs
from kubypass.kernel.program import Program, frame_context
from kubypass.model.constants import XDP_DEVICES
from kubypass.trace.programs import Programs

_PASS = 2
HANDLED = (
    "the uplink's driver has XDP, which makes the same of it; it leaves there, is counted at the hook xdp, and "
    "from_uplink does not see it"
)
PASSED = "XDP leaves it to from_uplink: only an sk_buff can do what it needs, or its neighbour is not known yet"
DIFFERS = "XDP makes another packet of it: please report this"


class Driver:
    """XDP on the uplink of one trace; the program is loaded when it is needed first."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._loaded: Program | None = None

    @property
    def _mac(self) -> bytes:
        """The MAC address of the uplink, if XDP handles its frames; else nothing."""
        slot = struct.pack("=I", self._programs.ifindex % XDP_DEVICES)
        found = layout.XdpDevice.unpack(self._programs.maps["xdp_devices"].lookup(slot) or b"")
        return bytes(found.mac) if found.ifindex == self._programs.ifindex else b""

    def compare(self, frame: bytes, expected: bytes) -> str:
        """What XDP does with a frame of which from_uplink has made `expected`; empty where the uplink has no XDP."""
        mac = self._mac
        if not mac:
            return ""
        if self._loaded is None:
            constants = self._programs.constants.pack()
            self._loaded = load_programs(
                (XDP_OBJECT,), self._programs.maps, {}, lambda opened: opened.set_rodata(constants)
            )[XDP_PROGRAM]
        sent = mac + frame[len(mac) :]
        context = frame_context(self._programs.ifindex, len(sent))
        run = self._loaded.test_run(sent, context=context)
        if run.retval == _PASS:
            return PASSED
        return HANDLED if run.data == expected else DIFFERS
