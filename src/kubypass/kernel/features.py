# SPDX-License-Identifier: Apache-2.0
"""Features that a kernel may lack. Each one is found by trying it, never by the kernel's version.

A version in this table says where a feature came from, so that a user knows what to upgrade to. Distributions carry
features back to older kernels, and a kernel's configuration may leave one out.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from kubypass.errors import KernelError, Unsupported
from kubypass.kernel import netns, sockdiag
from kubypass.kernel.attach.tcx import TcxHook
from kubypass.kernel.bpf import MAP_LOOKUP_BATCH, Map, attributes_of, call, check
from kubypass.kernel.program import Program

_PROG_LOAD = 5
_SCHED_CLS, _XDP, _CGROUP_SOCK_ADDR = 3, 6, 18
_CGROUP_CONNECT4 = 10
_FIB_LOOKUP, _COARSE_CLOCK, _CHECK_MTU, _SET_RETVAL, _XDP_LENGTH = 69, 160, 163, 187, 188
_FIB_SOURCE = 1 << 4
_LPM_TRIE, _NO_PREALLOC = 11, 1
_NO_DEVICE = 0x7FFFFFFF
XDP_HAS_FRAGS = 1 << 5
"""The flag of an XDP program that takes frames in several buffers."""

_R0, _R1, _R2, _R3, _R4, _R10 = 0, 1, 2, 3, 4, 10
_STORE_8, _ADD, _COPY, _SET, _CALL, _EXIT = 0x7A, 0x07, 0xBF, 0xB7, 0x85, 0x95


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature of the kernel that we use where it is there."""

    name: str
    """Its key in `kubypass status -o json`."""
    what: str
    """The kernel's word for it."""
    purpose: str
    """What we do with it."""
    since: str
    """The Linux version that brought it; a kernel option that it needs stands after the version."""
    probe: Callable[[], bool]

    @property
    def present(self) -> bool:
        """Whether this kernel has it."""
        return self.probe()

    def require(self) -> None:
        """Raises Unsupported where this kernel does not have it."""
        if not self.present:
            raise Unsupported(self.what, self.since)


def _instruction(
    code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0
) -> bytes:
    return struct.pack("=BBhi", code, target | source << 4, offset, value)


def _load(code: bytes, kind: int = _SCHED_CLS, attach: int = 0) -> int:
    """Loads instructions as a program; returns a descriptor, or minus the errno."""
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    at = ctypes.addressof(instructions), ctypes.addressof(licence)
    attributes = attributes_of("=IIQQIIQIIQQII", kind, len(code) // 8, *at, *(0,) * 8, attach)
    return call(_PROG_LOAD, attributes)


def _has_helper(number: int, kind: int = _SCHED_CLS, attach: int = 0) -> bool:
    """Whether programs of a kind may call a helper. EACCES: they may, but with other arguments than ours."""
    code = _instruction(_SET, _R1) + _instruction(_CALL, value=number)
    result = _load(code + _instruction(_SET, _R0) + _instruction(_EXIT), kind, attach)
    if result >= 0:
        os.close(result)
    return result >= 0 or -result == errno.EACCES


@cache
def _has_tcx() -> bool:
    """Attaches to a device that does not exist: ENODEV says that all but the device was fine."""
    code = _instruction(_SET, _R0) + _instruction(_EXIT)
    program = Program(check("load", "a probe", _load(code)))
    try:
        TcxHook(_NO_DEVICE, "ingress").attach(program)
    except KernelError as error:
        return error.errno == errno.ENODEV
    return True


@cache
def _has_coarse_clock() -> bool:
    return _has_helper(_COARSE_CLOCK)


@cache
def _has_set_retval() -> bool:
    return _has_helper(_SET_RETVAL, _CGROUP_SOCK_ADDR, _CGROUP_CONNECT4)


@cache
def _has_netns_cookie() -> bool:
    return netns.netns_cookie() != 0


@cache
def _has_socket_destroy() -> bool:
    """Closes a socket that does not exist."""
    return sockdiag.can_close()


@cache
def _has_route_source() -> bool:
    """Runs a lookup with this flag: bpf_fib_lookup refuses flags that it does not know, whatever it is asked."""
    room = 64  # struct bpf_fib_lookup
    code = b"".join(_instruction(_STORE_8, _R10, offset=-at) for at in range(8, room + 1, 8))
    code += _instruction(_COPY, _R2, _R10) + _instruction(_ADD, _R2, value=-room)
    code += _instruction(_SET, _R3, value=room) + _instruction(_SET, _R4, value=_FIB_SOURCE)
    loaded = _load(code + _instruction(_CALL, value=_FIB_LOOKUP) + _instruction(_EXIT))
    if loaded < 0:
        return False
    return Program(loaded).test_run(bytes(64)).retval != -errno.EINVAL & 0xFFFFFFFF


@cache
def _has_route_mtu() -> bool:
    """Asks for bpf_check_mtu, which came in the same series of patches: a lookup's answer needs a narrow route."""
    return _has_helper(_CHECK_MTU)


@cache
def _has_xdp_frags() -> bool:
    """Asks for bpf_xdp_get_buff_len, which came in the same series of patches."""
    return _has_helper(_XDP_LENGTH, _XDP)


@cache
def _has_trie_batches() -> bool:
    """Reads an empty trie: ENOENT says that it has come to the end."""
    trie = Map.create(_LPM_TRIE, 8, 4, 1, "probe", flags=_NO_PREALLOC)
    room = ctypes.create_string_buffer(32)
    at = ctypes.addressof(room)
    attributes = attributes_of("=QQQQIIQQ", 0, at, at + 8, at + 16, 1, trie.fd, 0, 0)
    return -call(MAP_LOOKUP_BATCH, attributes) == errno.ENOENT


NETNS_COOKIE = Feature(
    "netns_cookie",
    "SO_NETNS_COOKIE",
    "sockets of the node and of single pods are told from others",
    "5.14",
    _has_netns_cookie,
)
CLOSE_SOCKETS = Feature(
    "close_sockets",
    "SOCK_DESTROY",
    "sockets whose backend is gone are closed",
    "4.9 with CONFIG_INET_DIAG_DESTROY",
    _has_socket_destroy,
)
REFUSE_CONNECT = Feature(
    "refuse_connect",
    "bpf_set_retval",
    "refused calls get the errno that says why",
    "5.18",
    _has_set_retval,
)
XDP_FRAGS = Feature(
    "xdp_frags",
    "XDP frames in several buffers",
    "XDP handles frames that are larger than a page",
    "5.18",
    _has_xdp_frags,
)
FEATURES = (
    CLOSE_SOCKETS,
    Feature(
        "coarse_clock", "bpf_ktime_get_coarse_ns", "a cheaper clock", "5.11", _has_coarse_clock
    ),
    Feature(
        "route_mtu",
        "bpf_fib_lookup MTU",
        "ICMP says which packets would fit a route",
        "5.12",
        _has_route_mtu,
    ),
    Feature(
        "trie_batches",
        "batches of LPM trie entries",
        "source ranges are written in one call",
        "5.13",
        _has_trie_batches,
    ),
    NETNS_COOKIE,
    REFUSE_CONNECT,
    XDP_FRAGS,
    Feature("tcx", "tcx links", "programs on devices are replaced in place", "6.6", _has_tcx),
    Feature(
        "route_source",
        "bpf_fib_lookup source address",
        "SNAT uses the address that the route names",
        "6.7",
        _has_route_source,
    ),
)
"""Every feature that we look for, oldest first."""


@dataclass(frozen=True, slots=True)
class Features:
    """What the programs and the agent are told of this kernel."""

    tcx: bool
    coarse_clock: bool
    refuse_connect: bool
    netns_cookie: bool
    close_sockets: bool
    route_source: bool
    xdp_frags: bool


def probe_features() -> Features:
    """Tries each of these features, once in a process."""
    known = {feature.name: feature for feature in FEATURES}
    return Features(**{name: known[name].present for name in Features.__slots__})


def kernel_status() -> dict[str, object]:
    """What `kubypass status` says of this kernel: its release, and the features that it does not have."""
    lacking = [feature for feature in FEATURES if not feature.present]
    return {
        "release": os.uname().release,
        "missing": [
            {"feature": one.what, "since": one.since, "purpose": one.purpose} for one in lacking
        ],
    }
