# SPDX-License-Identifier: Apache-2.0
"""Attaching programs to devices by clsact filters, for kernels without tcx: libbpf's bpf_tc_* calls.

A filter belongs to the device: it has no pin, and stays until it is removed. It always has handle 1 and priority 1, so
that attaching again replaces the program in place.
"""

from __future__ import annotations

import ctypes
import errno
from dataclasses import dataclass

from kubypass.errors import KernelError
from kubypass.kernel.libbpf import library
from kubypass.kernel.program import Program

_POINTS = {"ingress": 1, "egress": 2}
_BOTH = 3
_REPLACE = 1


class _Hook(ctypes.Structure):
    """struct bpf_tc_hook."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("ifindex", ctypes.c_int),
        ("attach_point", ctypes.c_int),
        ("parent", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
    )


class _Options(ctypes.Structure):
    """struct bpf_tc_opts."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("prog_fd", ctypes.c_int),
        ("flags", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("handle", ctypes.c_uint32),
        ("priority", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
    )


def _hook(ifindex: int, point: int) -> _Hook:
    return _Hook(ctypes.sizeof(_Hook) - 4, ifindex, point, 0, 0)


def _options(**fields: int) -> _Options:
    return _Options(sz=ctypes.sizeof(_Options) - 4, handle=1, priority=1, **fields)


@dataclass(frozen=True, slots=True)
class ClsactHook:
    """One direction of one device."""

    ifindex: int
    direction: str
    """`ingress` or `egress`."""

    def attach(self, program: Program) -> None:
        """Attaches the program, in place of the one that our filter has now."""
        hook = _hook(self.ifindex, _POINTS[self.direction])
        result = library().bpf_tc_hook_create(ctypes.byref(hook))
        if result not in (0, -errno.EEXIST):
            raise KernelError("make clsact on device", str(self.ifindex), -result)
        options = _options(prog_fd=program.fd, flags=_REPLACE)
        result = library().bpf_tc_attach(ctypes.byref(hook), ctypes.byref(options))
        if result:
            raise KernelError("attach to device", f"{self.ifindex} {self.direction}", -result)

    @property
    def program_id(self) -> int:
        """The kernel's number of the program that is attached now; 0 where there is none."""
        hook, options = _hook(self.ifindex, _POINTS[self.direction]), _options()
        if library().bpf_tc_query(ctypes.byref(hook), ctypes.byref(options)):
            return 0
        return int(options.prog_id)


def remove_clsact(ifindex: int) -> None:
    """Removes clsact from the device, with all filters on it."""
    hook = _hook(ifindex, _BOTH)
    result = library().bpf_tc_hook_destroy(ctypes.byref(hook))
    if result not in (0, -errno.ENOENT, -errno.EINVAL, -errno.ENODEV):
        raise KernelError("remove clsact from device", str(ifindex), -result)
