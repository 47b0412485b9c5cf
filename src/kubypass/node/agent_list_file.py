# SPDX-License-Identifier: Apache-2.0
"""Reads ip-masq-agent's configuration, a mounted ConfigMap, and reads it again when it changes.

Without the file, ip-masq-agent's defaults hold. A file that cannot be read as such a configuration is a problem, and
the last one that could stays in use.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from kubypass.model.agent_list import AgentList
from kubypass.model.cidr import Cidr, parse_cidr
from kubypass.model.problem import Problem
from kubypass.regular_file import read_regular_file

_KEYS = ("nonMasqueradeCIDRs", "masqLinkLocal", "masqLinkLocalIPv6")
_OTHER_KEYS = frozenset({"resyncInterval"})
"""Keys of ip-masq-agent's own that say nothing of networks."""
_MAX_BYTES = 1 << 20
_Stamp = tuple[int, int, int]


class AgentListFile:
    """The configuration at a path, as it was last read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: _Stamp | None = (-1, -1, -1)
        self.content = AgentList()
        self.problems: tuple[Problem, ...] = ()

    def look(self) -> bool:
        """Reads the file if it is another one than before; returns whether the content changed."""
        stamp = self._read_stamp()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        before = self.content
        try:
            _, text = read_regular_file(self._path)
        except FileNotFoundError:
            text = b""
        except OSError as error:
            self._refuse(error.strerror or str(error))
            return False
        try:
            self.content = parse_agent_list(text)
        except ValueError as error:
            self._refuse(str(error))
            return False
        self.problems = ()
        return self.content != before

    def _read_stamp(self) -> _Stamp | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _refuse(self, reason: str) -> None:
        message = (
            f"is not used: {reason}; the list read before stays in use until the file is repaired"
        )
        self.problems = (Problem(f"ip-masq-agent's configuration {self._path}", message),)


def parse_agent_list(text: bytes) -> AgentList:
    """The configuration in YAML or JSON; an empty one has the defaults. ValueError says what is wrong, and where."""
    if len(text) > _MAX_BYTES:
        raise ValueError(f"it is longer than {_MAX_BYTES} bytes")
    try:
        found = yaml.load(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise ValueError(
            f"it is no YAML{where}: {getattr(error, 'problem', None) or error}"
        ) from None
    if found is None:
        return AgentList()
    if not isinstance(found, dict):
        raise ValueError(f"expected the keys {', '.join(_KEYS)}; found no keys at all")  # noqa: TRY004
    unknown = sorted(str(key) for key in found if key not in {*_KEYS, *_OTHER_KEYS})
    if unknown:
        raise ValueError(f"unknown key {unknown[0]}; expected {', '.join(_KEYS)}")
    families = ((4, "masqLinkLocal"), (6, "masqLinkLocalIPv6"))
    link_local = frozenset(version for version, key in families if _switch(found, key))
    return AgentList(_networks(found), link_local)


def _networks(found: dict[Any, Any]) -> tuple[Cidr, ...]:
    given = found.get("nonMasqueradeCIDRs")
    if given is None:
        given = []
    if not isinstance(given, list):
        raise ValueError(f"nonMasqueradeCIDRs: expected a list of networks; found {given!r}")  # noqa: TRY004
    networks = []
    for entry in given:
        try:
            networks.append(parse_cidr(str(entry)))
        except ValueError as error:
            raise ValueError(f"nonMasqueradeCIDRs: {error}") from None
    return tuple(networks)


def _switch(found: dict[Any, Any], key: str) -> bool:
    value = found.get(key)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{key}: expected true or false; found {value!r}")
    return bool(value)
