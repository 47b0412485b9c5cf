# SPDX-License-Identifier: Apache-2.0
"""Names of the ABI that changed: by these rows an upgrade recognises an earlier version's maps and fields.

Only maps that an upgrade copies need rows (`map_upgrade.TABLES` and `CONNECTIONS`); all others start empty. The meaning
of a value stays: a field that means something else gets a new name and no row, and its old name is not used again.
A row may go once no supported upgrade starts from a version older than its date.
"""

from __future__ import annotations

from typing import NamedTuple


class Rename(NamedTuple):
    """One name that changed; `date` is the day of the commit that changed it."""

    date: str
    old: str
    new: str


MAPS = (Rename("2026-11-29", "endpoints", "local_addresses"),)
"""Names of maps."""
FIELDS = {
    # 1 was "the node dialled an address of its own", and is FLOW_FLAG_FROM_SELF now.
    "flow": (Rename("2026-11-29", "from_self", "flags"),),
}
"""Names of fields, by the struct that this version has them in."""


def map_names(name: str) -> tuple[str, ...]:
    """All names that a map of this version has had, its own first."""
    return (name, *(rename.old for rename in MAPS if rename.new == name))


def field_names(struct: str) -> dict[str, str]:
    """Returns this version's names of the fields of a struct, by their earlier names."""
    return {rename.old: rename.new for rename in FIELDS.get(struct, ())}
