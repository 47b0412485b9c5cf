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
        "Uplinks, on which NodePorts answer; a trailing + stands for any ending. Unset: the devices with a "
        "default route or with the node's address.",
    )  # fmt: skip

    def has_family(self, family: Family) -> bool:
        """Whether the family is switched on."""
        return self.ipv4 if family == 4 else self.ipv6
