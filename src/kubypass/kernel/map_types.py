# SPDX-License-Identifier: Apache-2.0
"""Reads the layout of a map's keys and values from the BTF that was loaded with it."""

from __future__ import annotations

import ctypes
import struct

from kubypass.kernel.bpf import OBJ_GET_INFO, Map, Owned, attributes_of, call, check, describe
from kubypass.kernel.btf import Btf, Struct

_BTF_GET_FD_BY_ID = 19
_MAP_BTF_AT = 64  # btf_id, btf_key_type_id, btf_value_type_id of struct bpf_map_info
_BTF_INFO = struct.Struct("=QIIQII")  # struct bpf_btf_info: pointer, size, ...


def map_types(opened: Map) -> tuple[Struct, Struct] | None:
    """The types of the map's key and value; None for a map without BTF."""
    number, key, value = struct.unpack_from("=III", describe(opened.fd, 80), _MAP_BTF_AT)
    if not number:
        return None
    btf = Btf(_read_btf(number))
    return btf.type_of(key), btf.type_of(value)


def _read_btf(number: int) -> bytes:
    subject = f"BTF {number}"
    owned = Owned(check("open", subject, call(_BTF_GET_FD_BY_ID, attributes_of("=I", number))))
    room = b""
    for _ in range(2):  # the first time only to learn the size
        buffer = ctypes.create_string_buffer(room, max(len(room), 1))
        at = ctypes.addressof(buffer) if room else 0
        info = ctypes.create_string_buffer(_BTF_INFO.pack(at, len(room), 0, 0, 0, 0))
        asked = attributes_of("=IIQ", owned.fd, _BTF_INFO.size, ctypes.addressof(info))
        check("read", subject, call(OBJ_GET_INFO, asked))
        room = bytes(_BTF_INFO.unpack_from(info)[1])
    return buffer.raw
