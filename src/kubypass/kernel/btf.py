# SPDX-License-Identifier: Apache-2.0
"""Reads structs, enums and map definitions from BTF (Documentation/bpf/btf.rst).

It reads what layouts and their conversion need, from little-endian ELF64 objects of a few kilobytes. It is too slow for
vmlinux.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

from kubypass.errors import KernelError

_INT, _PTR, _ARRAY, _STRUCT, _ENUM, _TYPEDEF = 1, 2, 3, 4, 6, 8
_FUNC_PROTO, _VAR, _DATASEC, _DECL_TAG, _ENUM64 = 13, 14, 15, 17, 19
_EXTRA = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}
_EXTRA_EACH = {_STRUCT: 12, 5: 12, _ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}


@dataclass(frozen=True, slots=True)
class Member:
    """A field. `kind` is the name of its C type (`__be16`, `address`), `count` is above 1 for arrays; bytes."""

    name: str
    kind: str
    offset: int
    size: int
    count: int


@dataclass(frozen=True, slots=True)
class Struct:
    """A C struct; its size is in bytes."""

    name: str
    size: int
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class MapDefinition:
    """A map of section .maps: the number of its type, and the C types of its key and value."""

    name: str
    type: int
    key: str
    value: str
    max_entries: int = field(repr=False)
    """The default size. The layout hash is made of representations, and sizes are not part of it."""


@dataclass(frozen=True, slots=True)
class _Type:
    name: str
    kind: int
    vlen: int
    size: int  # or the type that it refers to
    extra: bytes


class Btf:
    """The types of one object."""

    def __init__(self, data: bytes) -> None:
        _, _, _, header, types_at, types_size, strings_at, strings_size = struct.unpack_from(
            "<HBBIIIII", data
        )
        self._strings = data[header + strings_at : header + strings_at + strings_size]
        self._types = self._parse(data[header + types_at : header + types_at + types_size])

    @classmethod
    def of_object(cls, path: Path | str) -> Btf:
        """Reads the types of a compiled object file."""
        return cls(_section(Path(path), ".BTF"))

    def _text(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def _parse(self, data: bytes) -> list[_Type]:
        types = [_Type("void", 0, 0, 0, b"")]
        at = 0
        while at < len(data):
            name, info, size = struct.unpack_from("<III", data, at)
            kind, vlen = info >> 24 & 0x1F, info & 0xFFFF
            extra = _EXTRA.get(kind, 0) + _EXTRA_EACH.get(kind, 0) * vlen
            types.append(_Type(self._text(name), kind, vlen, size, data[at + 12 : at + 12 + extra]))
            at += 12 + extra
        return types

    def structs(self) -> dict[str, Struct]:
        """Every named struct."""
        return {t.name: self._struct(t) for t in self._types if t.kind == _STRUCT and t.name}

    def type_of(self, number: int) -> Struct:
        """The type with this number; a type that is no struct is returned as a struct with one field."""
        found = self._types[number]
        if found.kind == _STRUCT:
            return self._struct(found)
        size = self._size(found)
        return Struct(found.name, size, (Member("value", found.name, 0, size, 1),))

    def _struct(self, found: _Type) -> Struct:
        members = []
        for name, kind, bits in struct.iter_unpack("<III", found.extra):
            target, count = self._types[kind], 1
            if target.kind == _ARRAY:
                element, _, count = struct.unpack("<III", target.extra)
                target = self._types[element]
            size = self._size(target)
            members.append(
                Member(self._text(name), target.name, (bits & 0xFFFFFF) // 8, size, count)
            )
        return Struct(found.name, found.size, tuple(members))

    def _size(self, found: _Type) -> int:
        while found.kind in (_TYPEDEF, 9, 10, 11):  # const, volatile, restrict
            found = self._types[found.size]
        return found.size

    def enums(self) -> dict[str, dict[str, int]]:
        """Every named enum, its members in the order of the source."""
        return {
            t.name: {self._text(name): value for name, value in struct.iter_unpack("<Ii", t.extra)}
            for t in self._types
            if t.kind == _ENUM and t.name
        }

    def maps(self) -> dict[str, MapDefinition]:
        """The maps of the object, in the order of the source."""
        found = {}
        for section in self._types:
            if section.kind == _DATASEC and section.name == ".maps":
                for variable, _, _ in struct.iter_unpack("<III", section.extra):
                    definition = self._map(self._types[variable])
                    found[definition.name] = definition
        return found

    def _map(self, variable: _Type) -> MapDefinition:
        fields = {}
        for name, kind, _ in struct.iter_unpack("<III", self._types[variable.size].extra):
            fields[self._text(name)] = self._types[self._types[kind].size]
        kind, size = (
            struct.unpack("<III", fields[name].extra)[2] for name in ("type", "max_entries")
        )
        return MapDefinition(variable.name, kind, fields["key"].name, fields["value"].name, size)


def _section(path: Path, wanted: str) -> bytes:
    """The bytes of one ELF section."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise KernelError("read", str(path), error.errno or 0, "run make build") from None
    if data[:6] != b"\x7fELF\x02\x01":
        raise KernelError("read", str(path), 0, "not a little-endian ELF64 object")
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    sections = [struct.unpack_from("<IIQQQQ", data, table + i * size) for i in range(count)]
    texts = sections[names][4]
    for name, _, _, _, offset, length in sections:
        end = data.index(b"\0", texts + name)
        if data[texts + name : end].decode() == wanted:
            return data[offset : offset + length]
    raise KernelError("find section", f"{wanted} in {path}", 0, "compile with -g")
