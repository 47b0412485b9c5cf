# SPDX-License-Identifier: Apache-2.0
"""Names from outside as names of files on a bpffs, which refuses dots (kernel/bpf/inode.c).

A byte that cannot stand becomes a colon and two hexadecimal digits: `bond0.100` is `bond0:2E100`. The kernel takes no
colon in a device's name, so the names that could always stand are their own file names.
"""

from __future__ import annotations

import re

_REFUSED = re.compile("[./:\0]")
_ESCAPED = re.compile(":([0-9A-F]{2})")


def bpffs_name(name: str) -> str:
    """The name of the file for this name; two names never have the same."""
    return _REFUSED.sub(lambda found: f":{ord(found.group()):02X}", name)


def from_bpffs_name(file_name: str) -> str:
    """The name for which `bpffs_name` gave this file name."""
    return _ESCAPED.sub(lambda found: chr(int(found.group(1), 16)), file_name)
