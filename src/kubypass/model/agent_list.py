# SPDX-License-Identifier: Apache-2.0
"""What ip-masq-agent's configuration says: the networks that pods reach with their own addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kubypass.model.cidr import Cidr, parse_cidr

LINK_LOCAL: Final = tuple(map(parse_cidr, ("169.254.0.0/16", "fe80::/10")))
_DEFAULT: Final = tuple(
    map(
        parse_cidr,
        (
            "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24",
            "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
        ),
    )
)  # fmt: skip
"""What ip-masq-agent leaves out where nobody has configured it."""


@dataclass(frozen=True, slots=True)
class AgentList:
    """ip-masq-agent's configuration."""

    networks: tuple[Cidr, ...] = _DEFAULT
    """Where packets keep the pod's address."""
    masquerade_link_local: frozenset[int] = frozenset()
    """The families whose link-local addresses are masqueraded."""

    @property
    def link_local(self) -> tuple[Cidr, ...]:
        """The link-local networks where packets keep the pod's address."""
        return tuple(c for c in LINK_LOCAL if c.family not in self.masquerade_link_local)
