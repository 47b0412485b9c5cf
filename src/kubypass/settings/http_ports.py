# SPDX-License-Identifier: Apache-2.0
"""Settings of the TCP ports that answer health checks and give metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubypass.model.address import UNSPECIFIED, parse_address
from kubypass.settings.key import Kind, setting
from kubypass.settings.parse import parse_bind_address, parse_size

if TYPE_CHECKING:
    from kubypass.model.address import AddressPort

_BIND_ADDRESS = Kind("address:port; empty: off", parse_bind_address)


@dataclass(frozen=True, slots=True)
class HttpPortSettings:
    """The TCP ports that answer health checks and give metrics."""

    proxy_health: AddressPort | None = setting(  # noqa: RUF009
        "kube-proxy-replacement-healthz-bind-address", _BIND_ADDRESS,
        (UNSPECIFIED[4], 10256), "0.0.0.0:10256",
        "/healthz and /livez as kube-proxy has them, for load balancers. 0.0.0.0 is every address, IPv6 "
        "included. Cilium's default is off.",
    )  # fmt: skip
    metrics: AddressPort | None = setting(  # noqa: RUF009
        "metrics-bind-address", _BIND_ADDRESS,
        (parse_address("127.0.0.1"), 10249), "127.0.0.1:10249",
        "/metrics, /proxyMode and /healthz as kube-proxy has them. Not one of Cilium's keys.",
    )  # fmt: skip
    agent_health: int = setting(
        "agent-health-port", Kind("port; 0: off", parse_size(0, 65535)), 9879, "9879",
        "On 127.0.0.1, for the kubelet's probes: /healthz answers 200 after the first complete sync, while changes "
        "are applied in time; /livez also before it.",
    )  # fmt: skip
