# SPDX-License-Identifier: Apache-2.0
"""Reverse path filters (RFC 3704): the kernel may drop what arrives by another device than its source is reached by.

Of a device's own value and that of `all`, the larger one counts (ip-sysctl): 0 is off, 1 strict, 2 loose. So a filter
becomes strict by a 1 in either, but also by a device's 0 below a 1 of `all`, or where a 2 of `all` goes.
"""

from __future__ import annotations

from functools import cached_property

from kubypass.kernel import sysctl
from kubypass.node.record import Kind, Record
from kubypass.node.sysctls import set_sysctl

_STRICT, _LOOSE = 1, 2


class ReversePathFilters:
    """The filters at one moment: that of `all` is read once, whatever the number of devices."""

    @cached_property
    def _of_all(self) -> int:
        return _read("all")

    def is_strict(self, device: str) -> bool:
        """Whether the kernel drops packets of a device whose source it would reach by another one."""
        return max(self._of_all, _read(device)) == _STRICT

    def loosen(self, device: str, record: Record | None = None, kind: Kind = Kind.SYSCTL) -> bool:
        """Makes a strict filter a loose one; record and kind are those of `set_sysctl`."""
        return self.is_strict(device) and set_sysctl(record, _name(device), str(_LOOSE), kind)


def _name(device: str) -> str:
    return f"net/ipv4/conf/{device}/rp_filter"


def _read(device: str) -> int:
    """The value of a device; 0 where there is no such device."""
    return int(sysctl.read(_name(device)) or 0)
