# SPDX-License-Identifier: Apache-2.0
"""Programs on devices by clsact filters, for kernels without tcx: libbpf's bpf_tc_* calls.

Always handle 1, priority 1: attaching again replaces in place.
"""

from __future__ import annotations

import ctypes
import errno as errnos

from kubypass.errors import KernelError
from kubypass.kernel.libbpf import library

_POINTS = {"ingress": 1, "egress": 2}
_BOTH = 3
_REPLACE = 1


class _Hook(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("ifindex", ctypes.c_int),
        ("attach_point", ctypes.c_int),
        ("parent", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
    )


class _Options(ctypes.Structure):
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


def attach(program_fd: int, ifindex: int, direction: str) -> None:
    """Puts the program on the device, in place of one that is there from before."""
    hook = _hook(ifindex, _POINTS[direction])
    result = library().bpf_tc_hook_create(ctypes.byref(hook))
    if result not in (0, -errnos.EEXIST):
        raise KernelError("make clsact on device", str(ifindex), -result)
    options = _options(prog_fd=program_fd, flags=_REPLACE)
    result = library().bpf_tc_attach(ctypes.byref(hook), ctypes.byref(options))
    if result:
        raise KernelError("attach to device", f"{ifindex} {direction}", -result)


def attached_id(ifindex: int, direction: str) -> int:
    """The number of the program that is there; 0 for none."""
    hook, options = _hook(ifindex, _POINTS[direction]), _options()
    if library().bpf_tc_query(ctypes.byref(hook), ctypes.byref(options)):
        return 0
    return int(options.prog_id)


def remove(ifindex: int) -> None:
    """Takes clsact off the device, with all filters on it."""
    hook = _hook(ifindex, _BOTH)
    result = library().bpf_tc_hook_destroy(ctypes.byref(hook))
    if result not in (0, -errnos.ENOENT, -errnos.EINVAL, -errnos.ENODEV):
        raise KernelError("remove clsact from device", str(ifindex), -result)
