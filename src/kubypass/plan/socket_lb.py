# SPDX-License-Identifier: Apache-2.0
"""Which pods are excluded from socket load balancing: their packets are translated instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kubypass.model.selector import matches

if TYPE_CHECKING:
    from kubypass.model.pod import Pod, PodMetadata
    from kubypass.settings.settings import Settings

SOCKET_LB_ANNOTATION: Final = "kubypass.io/socket-lb"
"""`disabled` excludes this pod."""


def is_excluded(pod: Pod | PodMetadata, settings: Settings) -> bool:
    """Whether the pod's annotation, labels or runtime class exclude it."""
    if pod.annotations.get(SOCKET_LB_ANNOTATION) == "disabled":
        return True
    selector = settings.sockets.excluded_pods
    if selector and matches(selector, pod.labels):
        return True
    return pod.runtime_class in settings.sockets.excluded_runtime_classes
