# SPDX-License-Identifier: Apache-2.0
"""A ConfigMap that holds settings, as text that nobody has understood yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConfigMap:
    """The settings of one ConfigMap."""

    name: str
    values: Mapping[str, str]
    selector: str | None = None
    """The nodes that it is for, as a label selector; None where it does not say."""
