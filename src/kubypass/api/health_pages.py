# SPDX-License-Identifier: Apache-2.0
"""What kube-proxy's HTTP addresses answer, byte for byte: /healthz, /livez, health of services, /proxyMode.

After pkg/proxy/healthcheck of Kubernetes. Pure: numbers in, an answer out.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from kubypass.api.answer import NO_SNIFF, Answer
from kubypass.model.service import ServiceKey

PROXY_MODE = "ebpf"
"""Where kube-proxy says iptables, ipvs or nftables."""
_NEVER = "0001-01-01 00:00:00 +0000 UTC"


def health_answer(
    now: float, last_updated: float | None, *, healthy: bool, node_eligible: bool | None = None
) -> Answer:
    """/healthz; /livez where `node_eligible` is None. Times are seconds since 1970; `last_updated` None: never."""
    ok = healthy and node_eligible is not False
    updated = now if ok else last_updated
    fields = f'"lastUpdated": "{_go_time(updated)}","currentTime": "{_go_time(now)}"'
    if node_eligible is not None:
        fields += f', "nodeEligible": {json.dumps(node_eligible)}'
    return Answer(200 if ok else 503, f"{{{fields}}}", "application/json", (NO_SNIFF,))


def _go_time(seconds: float | None) -> str:
    """As Go's time.Time prints itself."""
    if seconds is None:
        return _NEVER
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f +0000 UTC")


def service_answer(service: ServiceKey, local_endpoints: int, *, proxy_healthy: bool) -> Answer:
    """What a load balancer sees at a healthCheckNodePort."""
    body = {
        "service": {"namespace": service[0], "name": service[1]},
        "localEndpoints": local_endpoints,
        "serviceProxyHealthy": proxy_healthy,
    }
    code = 200 if local_endpoints and proxy_healthy else 503
    weight = ("X-Load-Balancing-Endpoint-Weight", str(local_endpoints))
    return Answer(code, json.dumps(body, indent="\t"), "application/json", (NO_SNIFF, weight))
