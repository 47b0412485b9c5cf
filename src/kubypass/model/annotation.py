# SPDX-License-Identifier: Apache-2.0
"""Annotations whose value cannot be read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WrongAnnotation:
    """An annotation of an object that has a wrong value. The last good value stays in use, if there is one."""

    field: str
    """The field of the object that the annotation is about. It has its default."""
    message: str
    """What the annotation says, and what was expected."""
    otherwise: str
    """What holds where no good value is known."""
