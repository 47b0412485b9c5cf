# SPDX-License-Identifier: Apache-2.0
"""A problem with one object: reported and counted; everything else goes on."""

from __future__ import annotations

from dataclasses import dataclass

from kubypass.model.printable import printable


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One line that tells a user about a problem."""

    subject: str
    """The object and where it is: `Service default/web (web.yaml)`."""
    message: str
    """What is wrong, what was expected, what to do."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "subject", printable(self.subject))
        object.__setattr__(self, "message", printable(self.message))

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}"
