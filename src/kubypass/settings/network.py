# SPDX-License-Identifier: Apache-2.0
"""Settings of the node's network: address families and devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubypass.settings.key import setting
from kubypass.settings.kinds import DEVICES, SWITCH

if TYPE_CHECKING:
    from kubypass.model.address import Family


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """Address families and devices of the node."""

    ipv4: bool = setting("enable-ipv4", SWITCH, True, "true", "Serves IPv4 Services and pods.")
    ipv6: bool = setting("enable-ipv6", SWITCH, True, "true", "Serves IPv6 Services and pods.")
    devices: tuple[str, ...] = setting(
        "devices", DEVICES, (), "",
        "Uplinks, on which NodePorts answer; a trailing + stands for any ending, and !name leaves a device out. "
        "Unset, or only with names left out: every device with an address in a network or with a route beyond its "
        "link. Devices of container runtimes and of other pod networks take no part by themselves; "
        "`kubypass status` names them.",
    )  # fmt: skip

    def has_family(self, family: Family) -> bool:
        """Whether the family is switched on."""
        return self.ipv4 if family == 4 else self.ipv6

    @property
    def families(self) -> tuple[Family, ...]:
        """The families that are switched on."""
        both: tuple[Family, ...] = (4, 6)
        return tuple(filter(self.has_family, both))
