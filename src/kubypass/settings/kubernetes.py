# SPDX-License-Identifier: Apache-2.0
"""Settings of the connection to Kubernetes."""

from __future__ import annotations

from dataclasses import dataclass

from kubypass.settings.key import Kind, setting
from kubypass.settings.kinds import API_TIMEOUT, LABEL_KEY
from kubypass.settings.parse import NS_PER_S
from kubypass.settings.parse_names import parse_urls


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """Which API servers are asked, and what the Node object is told."""

    api_server_urls: tuple[str, ...] = setting(
        "k8s-api-server-urls", Kind("URLs, with commas", parse_urls), (), "",
        "API servers, used instead of the kubeconfig's or of KUBERNETES_SERVICE_HOST; when one fails, the next "
        "one is asked. Never the address of a Service.",
    )  # fmt: skip
    heartbeat_timeout_ns: int = setting(
        "k8s-heartbeat-timeout", API_TIMEOUT, 30 * NS_PER_S, "30s",
        "An API server that was silent for this long is asked for a sign of life, and is given up if there is "
        "none.",
    )  # fmt: skip
    not_ready_taint_key: str = setting(
        "agent-not-ready-taint-key", LABEL_KEY,
        "node.kubypass.io/agent-not-ready", "node.kubypass.io/agent-not-ready",
        "The taint that is removed from the node once everything is in place. Cilium's default is another name.",
    )  # fmt: skip
