# SPDX-License-Identifier: Apache-2.0
"""Labels that say which proxy serves a Service or an EndpointSlice."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubypass.kube import wire

PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"


def is_selected(metadata: wire.Metadata, proxy_name: str) -> bool:
    """Whether the proxy of this name serves the object. HEADLESS_LABEL excludes it, whatever its value."""
    labels = metadata.labels
    if not labels:
        return not proxy_name
    if HEADLESS_LABEL in labels:
        return False
    return labels.get(PROXY_NAME_LABEL, "") == proxy_name and (
        bool(proxy_name) or PROXY_NAME_LABEL not in labels
    )


def label_selector(proxy_name: str) -> str:
    """The same rule as the API server's `labelSelector`."""
    name = f"{PROXY_NAME_LABEL}={proxy_name}" if proxy_name else f"!{PROXY_NAME_LABEL}"
    return f"{name},!{HEADLESS_LABEL}"
