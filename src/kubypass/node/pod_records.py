# SPDX-License-Identifier: Apache-2.0
"""Reads the records of this node's pods: a JSON file for each pod, written by whoever made its interface."""

from __future__ import annotations

import json
import re
from pathlib import Path

from kubypass.model.address import parse_address
from kubypass.model.pod import Pod
from kubypass.model.problem import Problem
from kubypass.regular_file import read_regular_file

_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")


class PodRecords:
    """The records in one directory. A file is read again only when it has changed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, tuple[tuple[int, ...], Pod | Problem]] = {}

    def read(self) -> tuple[list[Pod], list[Problem]]:
        """The pods of all records, and a problem for each record that cannot be read."""
        if not self._directory.is_dir():
            message = "are gone: the pods stay as they were; restore the directory, or restart them"
            return self._pods(), [Problem(f"Pod records {self._directory}", message)]
        known, self._known = self._known, {}
        for path in sorted(self._directory.glob("[!.]*.json")):
            try:
                stat = path.stat()
                seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
                before = known.get(path.name)
                found = before[1] if before and before[0] == seen else _read(path)
            except FileNotFoundError:
                continue
            self._known[path.name] = (seen, found)
        everything = [found for _, found in self._known.values()]
        return self._pods(), [found for found in everything if isinstance(found, Problem)]

    def _pods(self) -> list[Pod]:
        return [found for _, found in self._known.values() if isinstance(found, Pod)]


def read_pods(directory: Path) -> tuple[list[Pod], list[Problem]]:
    """The pods of all records in a directory, and a problem for each record that cannot be read."""
    return PodRecords(directory).read()


def _read(path: Path) -> Pod | Problem:
    try:
        return _pod(json.loads(read_regular_file(path)[1]))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
        message = f"cannot be used ({reason}); expected name, addresses, interface and mac"
        return Problem(f"Pod record {path.name}", message)


def _pod(record: dict[str, object]) -> Pod:
    fields = {name: value for name, value in record.items() if value is not None}
    mac = str(fields["mac"])
    if not _MAC.fullmatch(mac):
        raise ValueError(f"mac {mac!r} is not a MAC address")
    addresses = fields["addresses"]
    if not isinstance(addresses, list):
        raise TypeError("addresses is not a list")
    return Pod(
        str(fields.get("namespace", "")),
        str(fields["name"]),
        str(fields.get("uid", "")),
        tuple(parse_address(str(address)) for address in addresses),
        str(fields["interface"]),
        mac,
        str(fields.get("netns", "")),
        _texts(fields, "labels"),
        _texts(fields, "annotations"),
        str(fields.get("runtime_class", "")),
    )


def _texts(fields: dict[str, object], name: str) -> dict[str, str]:
    found = fields.get(name) or {}
    if not isinstance(found, dict):
        raise TypeError(f"{name} is not an object")
    return {str(key): str(value) for key, value in found.items()}
