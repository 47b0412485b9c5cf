# SPDX-License-Identifier: Apache-2.0
"""Names from outside, such as those of devices and files, as text that can be shown: any byte may be in them."""

from __future__ import annotations


def printable(text: str) -> str:
    """The same text on one line; control characters and bytes that are not UTF-8 are escaped as in Python's source."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
