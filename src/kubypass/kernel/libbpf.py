# SPDX-License-Identifier: Apache-2.0
"""Loads BPF objects with the system's libbpf (1.1 or newer), by ctypes.

libbpf opens the file, relocates the programs and gives them to the verifier. Its messages go into the error.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from kubypass.errors import KernelError, VerifierError

_LOG_LINES = 40
_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)

_pointer, _string, _int, _size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
_u32 = ctypes.c_uint32
_SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "bpf_object__open_file": (_pointer, (_string, _pointer)),
    "bpf_object__load": (_int, (_pointer,)),
    "bpf_object__close": (None, (_pointer,)),
    "bpf_object__find_program_by_name": (_pointer, (_pointer, _string)),
    "bpf_object__find_map_by_name": (_pointer, (_pointer, _string)),
    "bpf_object__next_map": (_pointer, (_pointer, _pointer)),
    "bpf_object__next_program": (_pointer, (_pointer, _pointer)),
    "bpf_program__fd": (_int, (_pointer,)),
    "bpf_program__name": (_string, (_pointer,)),
    "bpf_program__set_flags": (_int, (_pointer, _u32)),
    "bpf_map__fd": (_int, (_pointer,)),
    "bpf_map__name": (_string, (_pointer,)),
    "bpf_map__set_max_entries": (_int, (_pointer, _u32)),
    "bpf_map__reuse_fd": (_int, (_pointer, _int)),
    "bpf_map__initial_value": (_pointer, (_pointer, _pointer)),
    "bpf_map__set_initial_value": (_int, (_pointer, _string, _size)),
    "bpf_tc_hook_create": (_int, (_pointer,)),
    "bpf_tc_hook_destroy": (_int, (_pointer,)),
    "bpf_tc_attach": (_int, (_pointer, _pointer)),
    "bpf_tc_query": (_int, (_pointer, _pointer)),
    "libbpf_set_print": (_pointer, (_PRINT,)),
    "libbpf_version_string": (_string, ()),
}

_log: list[str] = []


def _vsnprintf() -> ctypes._NamedFuncPointer:
    function = ctypes.CDLL(None).vsnprintf
    function.restype = _int
    function.argtypes = (ctypes.c_char_p, _size, _string, _pointer)
    return function


def _print(_level: int, template: bytes, arguments: int) -> int:
    text = ctypes.create_string_buffer(65536)
    length = _vsnprintf()(text, len(text), template, arguments)
    _log.extend(text.value.decode(errors="replace").splitlines())
    return int(length)


_keep_print = _PRINT(_print)  # libbpf holds only a pointer to it


@cache
def library() -> ctypes.CDLL:
    """The library, with the signature of every function that we call."""
    name = ctypes.util.find_library("bpf") or "libbpf.so.1"
    try:
        loaded = ctypes.CDLL(name, use_errno=True)
    except OSError as error:
        raise KernelError("open", name, error.errno or 0, "install libbpf1") from None
    for function, (result, arguments) in _SIGNATURES.items():
        getattr(loaded, function).restype = result
        getattr(loaded, function).argtypes = arguments
    loaded.libbpf_set_print(_keep_print)
    return loaded


def version() -> str:
    """The version of libbpf, as `v1.1`."""
    text: bytes = library().libbpf_version_string()
    return text.decode()


class ObjectFile:
    """A compiled object: open it, set constants and map sizes, load it, take its file descriptors.

    The descriptors are closed with the object: pin or duplicate those that have to stay.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = str(path)
        _log.clear()
        self._handle = library().bpf_object__open_file(self._path.encode(), None)
        if not self._handle:
            raise KernelError("open BPF object", self._path, ctypes.get_errno(), "run make build")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the object and closes its descriptors."""
        if self._handle:
            library().bpf_object__close(self._handle)
            self._handle = None

    @property
    def map_names(self) -> tuple[str, ...]:
        """The names of the maps, without sections such as .rodata."""
        names, current = [], None
        while current := library().bpf_object__next_map(self._handle, current):
            name: str = library().bpf_map__name(current).decode()
            if "." not in name:
                names.append(name)
        return tuple(names)

    @property
    def program_names(self) -> tuple[str, ...]:
        """The C names of the programs."""
        names, current = [], None
        while current := library().bpf_object__next_program(self._handle, current):
            names.append(library().bpf_program__name(current).decode())
        return tuple(names)

    def set_rodata(self, value: bytes) -> None:
        """Sets the constants of the programs: one `config` at the start of .rodata."""
        new = value + self.rodata()[len(value) :]
        result = library().bpf_map__set_initial_value(self._rodata(), new, len(new))
        self._check("set .rodata of", result)

    def rodata(self) -> bytes:
        """The constants in the file: the `config`, and what the compiler puts after it."""
        size = ctypes.c_size_t()
        current = library().bpf_map__initial_value(self._rodata(), ctypes.byref(size))
        return ctypes.string_at(current, size.value)

    def use_rodata(self, fd: int) -> None:
        """Takes the constants from a map that is not frozen, so that the verifier keeps the code of every feature."""
        self._check("set .rodata of", library().bpf_map__reuse_fd(self._rodata(), fd))

    def _rodata(self) -> int:
        current = None
        while current := library().bpf_object__next_map(self._handle, current):
            if library().bpf_map__name(current).endswith(b".rodata"):
                return int(current)
        raise KernelError("find .rodata in", self._path, 0)

    def set_max_entries(self, sizes: Mapping[str, int]) -> None:
        """Sets the sizes of maps; names that the object does not have are skipped."""
        for name, size in sizes.items():
            if name in self.map_names:
                result = library().bpf_map__set_max_entries(self._map(name), size)
                self._check(f"set the size of map {name} in", result)

    def reuse_maps(self, maps: Mapping[str, int]) -> None:
        """Makes the object use these maps, given by their descriptors, in place of its own."""
        for name, fd in maps.items():
            if name in self.map_names:
                self._check(
                    f"reuse map {name} in", library().bpf_map__reuse_fd(self._map(name), fd)
                )

    def load(self) -> None:
        """Creates the maps and gives the programs to the verifier."""
        _log.clear()
        result = library().bpf_object__load(self._handle)
        if result:
            raise VerifierError(self._path, -result, "\n".join(_log[-_LOG_LINES:]))

    def set_program_flags(self, name: str, flags: int) -> None:
        """Sets the flags of one program (BPF_F_ of bpf(2)), in place of those that its section implies."""
        result = library().bpf_program__set_flags(self._program(name), flags)
        self._check(f"set the flags of program {name} in", result)

    def program_fd(self, name: str) -> int:
        """The descriptor of a loaded program."""
        return int(library().bpf_program__fd(self._program(name)))

    def _program(self, name: str) -> int:
        handle = library().bpf_object__find_program_by_name(self._handle, name.encode())
        if not handle:
            raise KernelError(f"find program {name} in", self._path, 0)
        return int(handle)

    def map_fd(self, name: str) -> int:
        """The descriptor of a created map."""
        return int(library().bpf_map__fd(self._map(name)))

    def _map(self, name: str) -> int:
        handle = library().bpf_object__find_map_by_name(self._handle, name.encode())
        if not handle:
            raise KernelError(f"find map {name} in", self._path, 0)
        return int(handle)

    def _check(self, call: str, result: int) -> None:
        if result:
            raise KernelError(call, self._path, -result)
