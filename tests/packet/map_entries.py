# SPDX-License-Identifier: Apache-2.0
"""What the lab's maps say of devices and of ports."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from kubypass.datapath import layout
from kubypass.datapath.local_addresses import xdp_devices
from kubypass.datapath.synced_map import SyncedMap
from kubypass.kernel.bpf import Map
from kubypass.model.constants import PORT_PAIRS
from kubypass.model.verdict import RedirectDomain
from tests.packet.packets import NODE_MAC
from tests.packet.uplink import POD_DEVICES


def pod_device(maps: Mapping[str, Map], packet: bytes) -> int:
    """The device of the pod that has the packet's source address, or of the lab's first pod."""
    version = packet[14] >> 4 if packet[12:14] in {b"\x08\x00", b"\x86\xdd"} else 0
    mapped = bytes(10) + b"\xff\xff" + packet[26:30]
    raw = maps["local_addresses"].lookup({4: mapped, 6: packet[22:38]}.get(version, bytes(16)))
    found = layout.LocalAddress.unpack(raw).ifindex if raw and len(packet) >= 38 else 0
    return found or POD_DEVICES[0]


def note_ports(maps: Mapping[str, Map]) -> None:
    """Has the programs look into `transient_flows` for any ports."""
    keys = struct.pack(f"={PORT_PAIRS}I", *range(PORT_PAIRS))
    maps["transient_ports"].update_batch(keys, b"\xff" * 4 * PORT_PAIRS, PORT_PAIRS)


def drive_devices(
    maps: Mapping[str, Map], *indexes: int, domain: RedirectDomain = RedirectDomain.NATIVE
) -> None:
    """Has XDP handle the frames of these devices, and of no others."""
    mac = bytes.fromhex(NODE_MAC.replace(":", ""))
    SyncedMap(maps["xdp_devices"]).apply(xdp_devices(dict.fromkeys(indexes, (mac, domain))))
