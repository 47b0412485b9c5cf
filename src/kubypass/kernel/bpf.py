# SPDX-License-Identifier: Apache-2.0
"""bpf(2), and maps. Programs are in program.py, links in attach/.

Keys and values are bytes in the kernel's layout. A map owns its descriptor and closes it when it is collected; pins
keep the object in the kernel. linux/bpf.h has the layouts of `union bpf_attr`.
"""

from __future__ import annotations

import ctypes
import errno as errnos
import os
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from kubypass.errors import KernelError

_SYSCALL = {"x86_64": 321, "aarch64": 280}[platform.machine()]

MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, MAP_NEXT_KEY = 1, 2, 3, 4
OBJ_PIN, OBJ_GET, OBJ_GET_INFO = 6, 7, 15
MAP_LOOKUP_BATCH, MAP_UPDATE_BATCH, MAP_DELETE_BATCH = 24, 26, 27
MAP_CREATE = 0

ANY, NOEXIST = 0, 1


# 524 is the kernel's own ENOTSUPP
_NO_BATCH = (errnos.EINVAL, 524, errnos.EOPNOTSUPP)
_PER_CPU_TYPES = (5, 6, 10, 21)
_ATTR_BYTES = 144


@cache
def _syscall() -> ctypes._NamedFuncPointer:
    function = ctypes.CDLL(None, use_errno=True).syscall
    function.restype = ctypes.c_long
    function.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint)
    return function


def call(command: int, attributes: bytes | ctypes.Array[ctypes.c_char]) -> int:
    """Calls bpf(2); returns its result, or minus the errno."""
    if isinstance(attributes, ctypes.Array):
        buffer = attributes
    else:
        buffer = ctypes.create_string_buffer(bytes(attributes), max(len(attributes), _ATTR_BYTES))
    result = int(_syscall()(_SYSCALL, command, ctypes.addressof(buffer), len(buffer)))
    return result if result >= 0 else -ctypes.get_errno()


def attributes_of(layout: str, *values: int) -> ctypes.Array[ctypes.c_char]:
    """A zeroed union bpf_attr that starts with these values."""
    packed = struct.pack(layout, *values)
    return ctypes.create_string_buffer(packed, max(len(packed), _ATTR_BYTES))


def check(call: str, subject: str, result: int, hint: str = "") -> int:
    """The result of a call, or a KernelError that names it."""
    if result < 0:
        raise KernelError(call, subject, -result, hint)
    return result


def _pin(fd: int, path: str) -> None:
    name = ctypes.create_string_buffer(os.fsencode(path))
    result = call(OBJ_PIN, attributes_of("=QII", ctypes.addressof(name), fd, 0))
    check("pin", path, result, "is the directory on a bpf filesystem?")


def open_pin(path: str) -> int:
    """A descriptor of what is pinned at `path`."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return check(
        "open pinned", path, call(OBJ_GET, attributes_of("=QII", ctypes.addressof(name), 0, 0))
    )


def describe(fd: int, size: int) -> bytes:
    """Returns the first `size` bytes of struct bpf_{map,prog,link}_info of a descriptor."""
    buffer = ctypes.create_string_buffer(size)
    result = call(OBJ_GET_INFO, attributes_of("=IIQ", fd, size, ctypes.addressof(buffer)))
    check("read the description of", f"descriptor {fd}", result)
    return buffer.raw


class Owned:
    """A descriptor that is closed with its object."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Closes the descriptor; a second call does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            os.close(self.fd)
            self.fd = -1

    def pin(self, path: str) -> None:
        """Keeps the object in the kernel under `path` on a bpf filesystem."""
        _pin(self.fd, str(path))


@dataclass(frozen=True, slots=True)
class MapInfo:
    """The kernel's description of a map; sizes are in bytes."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str


@cache
def possible_cpus() -> int:
    """The number of values that a per-CPU map holds for each key."""
    with open("/sys/devices/system/cpu/possible") as file:
        last = file.read().strip().split(",")[-1].split("-")[-1]
    return int(last) + 1


class Map(Owned):
    """A BPF map."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        kind, number, key, value, entries, flags = struct.unpack_from(
            "=IIIIII", raw := describe(fd, 80)
        )
        name = raw[24:40].split(b"\0")[0].decode()
        self.info = MapInfo(kind, number, key, value, entries, flags, name)
        self._per_cpu = kind in _PER_CPU_TYPES
        size = (value + 7) // 8 * 8 * possible_cpus() if self._per_cpu else value
        self._key = ctypes.create_string_buffer(key)
        self._value = ctypes.create_string_buffer(size)
        self._element = attributes_of(
            "=IIQQQ", fd, 0, ctypes.addressof(self._key), ctypes.addressof(self._value), 0
        )
        self._key_only = attributes_of("=IIQ", fd, 0, ctypes.addressof(self._key))

    @classmethod
    def create(
        cls,
        kind: int,
        key_size: int,
        value_size: int,
        entries: int,
        name: str = "",
        *,
        flags: int = 0,
    ) -> Map:
        """Creates a map; `kind` is a number of enum bpf_map_type."""
        packed = struct.pack(
            "=IIIIIII16s", kind, key_size, value_size, entries, flags, 0, 0, name.encode()[:15]
        )
        return cls(check("create map", name, call(MAP_CREATE, packed)))

    @classmethod
    def open_pinned(cls, path: str) -> Map:
        """The map pinned at `path`."""
        return cls(open_pin(str(path)))

    @property
    def memory_bytes(self) -> int:
        """What the kernel has allocated for the map, as it accounts for it (before Linux 6.4, an estimate)."""
        with open(f"/proc/self/fdinfo/{self.fd}") as file:
            found = dict(line.split(":", 1) for line in file if ":" in line)
        return int(found.get("memlock", "0"))

    def lookup(self, key: bytes) -> bytes | None:
        """The value of `key`; None where the map does not have it."""
        self._key.raw = key
        result = call(MAP_LOOKUP, self._element)
        if result == -errnos.ENOENT:
            return None
        check("look up in map", self.info.name, result)
        return self._value.raw

    def lookup_percpu(self, key: bytes) -> list[bytes]:
        """One value for each possible CPU; empty where the key is absent."""
        raw = self.lookup(key)
        if raw is None:
            return []
        step, size = (self.info.value_size + 7) // 8 * 8, self.info.value_size
        return [raw[at : at + size] for at in range(0, len(raw), step)]

    def _update(self, key: bytes, value: bytes, flags: int) -> int:
        self._key.raw = key
        self._value.raw = value
        struct.pack_into("=Q", self._element, 24, flags)
        result = call(MAP_UPDATE, self._element)
        struct.pack_into("=Q", self._element, 24, 0)
        return result

    def update(self, key: bytes, value: bytes, flags: int = ANY) -> None:
        """Sets one entry. A KernelError with ENOSPC or E2BIG says that the map is full."""
        check("update map", self.info.name, self._update(key, value, flags))

    def add(self, key: bytes, value: bytes) -> bool:
        """Adds one entry; False where the map has the key already."""
        result = self._update(key, value, NOEXIST)
        if result == -errnos.EEXIST:
            return False
        check("add to map", self.info.name, result)
        return True

    def delete(self, key: bytes) -> bool:
        """Removes one entry; False where the map does not have it."""
        self._key.raw = key
        result = call(MAP_DELETE, self._key_only)
        if result == -errnos.ENOENT:
            return False
        check("delete from map", self.info.name, result)
        return True

    def update_batch(self, keys: bytes, values: bytes, count: int) -> None:
        """Sets `count` entries; `keys` and `values` are concatenated."""
        done = self._batch(MAP_UPDATE_BATCH, keys, values, count)
        key_size, value_size = self.info.key_size, self.info.value_size
        for at in range(done, count):
            key = keys[at * key_size : (at + 1) * key_size]
            self.update(key, values[at * value_size : (at + 1) * value_size])

    def delete_batch(self, keys: bytes, count: int) -> None:
        """Removes `count` entries; `keys` are concatenated. A key that is not in the map is skipped."""
        done = self._batch(MAP_DELETE_BATCH, keys, b"", count)
        size = self.info.key_size
        for at in range(done, count):
            self.delete(keys[at * size : (at + 1) * size])

    def _batch(self, command: int, keys: bytes, values: bytes, count: int) -> int:
        """Runs a batch; returns the number of entries done before the kernel refused it or met a missing key."""
        if not count:
            return 0
        key_buffer = ctypes.create_string_buffer(keys, len(keys))
        value_buffer = ctypes.create_string_buffer(values, len(values)) if values else None
        values_at = ctypes.addressof(value_buffer) if value_buffer is not None else 0
        attributes = attributes_of(
            "=QQQQIIQQ", 0, 0, ctypes.addressof(key_buffer), values_at, count, self.fd, 0, 0
        )
        result = call(command, attributes)
        if result >= 0:
            return count
        if -result in _NO_BATCH:
            return 0
        if -result in (errnos.ENOENT, errnos.E2BIG, errnos.ENOSPC, errnos.ENOMEM):
            done: int = struct.unpack_from("=I", attributes, 32)[0]
            return done if done < count else 0  # as given: the kernel had no memory to begin with
        raise KernelError("change many entries of map", self.info.name, -result)

    def items(self, chunk: int = 4096) -> Iterator[tuple[bytes, bytes]]:
        """All entries, read in chunks. An entry that is added or removed meanwhile may be missed or seen."""
        key_size, value_size = self.info.key_size, len(self._value)
        for keys, values, count in self.chunks(chunk):
            for at in range(count):
                yield (
                    keys[at * key_size : (at + 1) * key_size],
                    values[at * value_size : (at + 1) * value_size],
                )

    def chunks(self, chunk: int = 4096) -> Iterator[tuple[bytes, bytes, int]]:
        """All entries as (keys, values, count), each the concatenation of up to `chunk` entries."""
        chunk = min(chunk, self.info.max_entries)
        cursor_in = 0
        cursors = (
            ctypes.create_string_buffer(max(self.info.key_size, 4)),
            ctypes.create_string_buffer(max(self.info.key_size, 4)),
        )
        turn = 0
        while True:
            keys = ctypes.create_string_buffer(chunk * self.info.key_size)
            values = ctypes.create_string_buffer(chunk * len(self._value))
            attributes = attributes_of(
                "=QQQQIIQQ",
                cursor_in,
                ctypes.addressof(cursors[turn]),
                ctypes.addressof(keys),
                ctypes.addressof(values),
                chunk,
                self.fd,
                0,
                0,
            )
            result = call(MAP_LOOKUP_BATCH, attributes)
            if -result in _NO_BATCH and not cursor_in:
                yield from self._walk()
                return
            if result == -errnos.ENOSPC:  # one hash bucket holds more than a chunk
                chunk *= 2
                continue
            if result < 0 and result != -errnos.ENOENT:
                raise KernelError("read map", self.info.name, -result)
            count: int = struct.unpack_from("=I", attributes, 32)[0]
            if count:
                key_bytes, value_bytes = count * self.info.key_size, count * len(self._value)
                yield keys.raw[:key_bytes], values.raw[:value_bytes], count
            if result == -errnos.ENOENT:
                return
            cursor_in = ctypes.addressof(cursors[turn])
            turn ^= 1

    def _walk(self) -> Iterator[tuple[bytes, bytes, int]]:
        following = ctypes.create_string_buffer(self.info.key_size)
        key = 0
        while True:
            attributes = attributes_of("=IIQQ", self.fd, 0, key, ctypes.addressof(following))
            if call(MAP_NEXT_KEY, attributes) < 0:
                return
            value = self.lookup(following.raw)
            if value is not None:
                yield following.raw, value, 1
            previous = ctypes.create_string_buffer(following.raw, self.info.key_size)
            key = ctypes.addressof(previous)
