# SPDX-License-Identifier: Apache-2.0
"""Whether XDP fits a device, and why not: what is known of it before the kernel is asked. Pure."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from kubypass.errors import KernelError
from kubypass.kernel.attach.xdp import XdpMode
from kubypass.kernel.ethtool import DriverFacts
from kubypass.kernel.netlink import FrameHeader, Link
from kubypass.model.printable import printable

_ONE_BUFFER_MTU = 3498
"""A page of 4096 bytes, less what drivers keep free in front of a frame and behind it."""
_TAKE_REDIRECTS = frozenset(
    {"veth", "virtio_net", "mlx5_core", "i40e", "ixgbe", "ice", "igb", "igc", "ena", "bnxt_en"}
)
"""Drivers that send frames of other devices once they have a program themselves (ndo_xdp_xmit)."""
OTHER_END = "what leaves arrives only if the other end of the veth has an XDP program too"
_BEST_EFFORT_VETH = (
    f"{OTHER_END}, which nobody can tell from here: write native if it has, or generic"
)


@dataclass(frozen=True, slots=True)
class AcceleratedDevice:
    """An uplink: how XDP handles its packets."""

    name: str
    mode: XdpMode | None
    """None: not at all."""
    reason: str = ""
    """Why not, or what to know."""

    def __str__(self) -> str:
        how = f"{printable(self.name)} {self.mode or 'none'}"
        return f"{how}: {self.reason}" if self.reason else how


def why_not(
    link: Link, links: Iterable[Link], driver: DriverFacts, wanted: str, *, frags: bool
) -> str:
    """Why XDP does not fit a device; empty where nothing speaks against it.

    `wanted` is the setting's word, `frags` whether the kernel has frames in several buffers.
    """
    native = () if wanted == "generic" else _against_native(link, driver, frags=frags)
    veth = link.kind == "veth" and wanted == "best-effort"
    return next(chain(_against_both(link, links), native, [_BEST_EFFORT_VETH] if veth else ()), "")


def _against_both(link: Link, links: Iterable[Link]) -> Iterator[str]:
    """What speaks against each mode."""
    if link.header != FrameHeader.ETHERNET:
        yield "its packets have no Ethernet header"
    upper = [one.name for one in links if one.kind == "vlan" and one.lower == link.index]
    if upper:
        yield (
            f"{_names(upper)} are VLANs on it: a driver takes tags off before XDP sees the frames"
        )


def _against_native(link: Link, driver: DriverFacts, *, frags: bool) -> Iterator[str]:
    """What speaks against a program in the driver."""
    if link.kind in {"bond", "team"}:
        yield f"frames arrive by the parts of this {link.kind}: use generic"
    if driver.lro:
        yield f"large receive offload joins frames: ethtool -K {printable(link.name)} lro off"
    if link.mtu > _ONE_BUFFER_MTU and not frags:
        yield (
            f"MTU {link.mtu} is above {_ONE_BUFFER_MTU}, the most without frames in several buffers "
            "(Linux 5.18)"
        )


def why_refused(error: KernelError, driver: DriverFacts) -> str:
    """Why the kernel has not attached the program, and what to do."""
    if error.errno in {errno.EBUSY, errno.EEXIST}:
        return "another XDP program is attached, and is left alone: `ip link` shows it"
    if error.errno == errno.EOPNOTSUPP:
        return f"the driver {driver.driver or 'of this device'} has no native XDP"
    queues = ""
    if driver.max_queues:
        queues = (
            f"; it uses {driver.queues} of {driver.max_queues} pairs of queues, and some drivers need one for each "
            "CPU or every second one: ethtool -L; the kernel's log may say more"
        )
    return f"the driver {driver.driver or 'of this device'} refuses: {error}{queues}"


def takes_redirects(driver: DriverFacts) -> bool:
    """Whether a native device takes frames that other native devices redirect to it."""
    return driver.driver in _TAKE_REDIRECTS


def _names(names: Collection[str]) -> str:
    return ", ".join(sorted(map(printable, names)))
