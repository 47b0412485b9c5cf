# SPDX-License-Identifier: Apache-2.0
"""The answers of kube-proxy's HTTP ports, byte for byte: /healthz, /livez, health of services, /proxyMode.

They follow pkg/proxy/healthcheck of Kubernetes. Pure: numbers in, an answer out.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from kubypass.api.answer import NO_SNIFF, Answer
from kubypass.model.service import ServiceKey

PROXY_MODE = "ebpf"
"""The answer to /proxyMode; kube-proxy's is iptables, ipvs or nftables."""
_NEVER = "0001-01-01 00:00:00 +0000 UTC"


def health_answer(
    now: float, last_updated: float | None, *, healthy: bool, node_eligible: bool | None = None
) -> Answer:
    """The answer to /healthz, or to /livez where `node_eligible` is None.

    Times are seconds since 1970. A `last_updated` of None means never.
    """
    ok = healthy and node_eligible is not False
    updated = now if ok else last_updated
    fields = f'"lastUpdated": "{_go_time(updated)}","currentTime": "{_go_time(now)}"'
    if node_eligible is not None:
        fields += f', "nodeEligible": {json.dumps(node_eligible)}'
    return Answer(200 if ok else 503, f"{{{fields}}}", "application/json", (NO_SNIFF,))


def _go_time(seconds: float | None) -> str:
    """A time as Go's time.Time prints itself."""
    if seconds is None:
        return _NEVER
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f +0000 UTC")


def service_answer(service: ServiceKey, local_endpoints: int, *, proxy_healthy: bool) -> Answer:
    """The answer to a load balancer at a healthCheckNodePort."""
    body = {
        "service": {"namespace": service[0], "name": service[1]},
        "localEndpoints": local_endpoints,
        "serviceProxyHealthy": proxy_healthy,
    }
    code = 200 if local_endpoints and proxy_healthy else 503
    weight = ("X-Load-Balancing-Endpoint-Weight", str(local_endpoints))
    return Answer(code, json.dumps(body, indent="\t"), "application/json", (NO_SNIFF, weight))
