# SPDX-License-Identifier: Apache-2.0
"""Settings as they are written in a ConfigMap, before they are understood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SettingsText:
    """Of one ConfigMap."""

    name: str
    values: Mapping[str, str]
    selector: str | None = None
    """For which nodes it is, as a label selector; None: it does not say."""
