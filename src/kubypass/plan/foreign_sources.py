# SPDX-License-Identifier: Apache-2.0
"""Which pods may send from addresses that are not theirs: routers in pods. All others are held to their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kubypass.model.pod import Pod, PodMetadata

FOREIGN_SOURCES_ANNOTATION: Final = "kubypass.io/foreign-sources"
"""`allowed` lets this pod send whatever it likes."""


def may_send_foreign(pod: Pod | PodMetadata) -> bool:
    """Whether the pod's annotation exempts it."""
    return pod.annotations.get(FOREIGN_SOURCES_ANNOTATION) == "allowed"
