# SPDX-License-Identifier: Apache-2.0
"""Ranges of ports, each by its first and its last port."""

from __future__ import annotations

Ports = tuple[int, int]
LAST_PORT = 65535
LINUX_EPHEMERAL: Ports = (32768, 60999)
"""Linux's default of net.ipv4.ip_local_port_range: the ports of sockets that ask for none."""
