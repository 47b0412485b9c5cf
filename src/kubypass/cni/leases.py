# SPDX-License-Identifier: Apache-2.0
"""The leases of pods' addresses. A pod's record is its lease: written before its addresses are used, removed after.

Records that others wrote into the same directory count as leases too, and are never changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kubypass.cni.protocol import Attachment
from kubypass.kernel.files import UNFINISHED, write_file
from kubypass.model.address import Address, format_address, parse_address
from kubypass.model.pod import INTERFACE_PREFIX


@dataclass(frozen=True, slots=True)
class Lease:
    """One interface of a pod, as its record says."""

    attachment: Attachment
    network: str
    """The `name` of the network configuration."""
    namespace: str
    name: str
    uid: str
    netns: str
    """The path of the network namespace that the runtime gave."""
    addresses: tuple[Address, ...]

    @property
    def _hash(self) -> str:
        return _hash(self.attachment)

    @property
    def interface(self) -> str:
        """The name of the veth's end on the node."""
        return INTERFACE_PREFIX + self._hash[:12]

    @property
    def mac(self) -> bytes:
        """The MAC address of the pod's end: locally administered (RFC 7042 section 2.1), and stable."""
        return b"\x02" + bytes.fromhex(self._hash)[-5:]

    @property
    def node_mac(self) -> bytes:
        """The MAC address of the node's end."""
        return b"\x06" + bytes.fromhex(self._hash)[-5:]


def _hash(attachment: Attachment) -> str:
    """Hashes both names whole, because shortened names are not unique."""
    text = f"{attachment.container_id}/{attachment.ifname}"
    return hashlib.sha256(text.encode()).hexdigest()


def format_mac(mac: bytes) -> str:
    """Formats a MAC address as `aa:bb:cc:dd:ee:ff`."""
    return mac.hex(":")


class Leases:
    """The records in one directory. Only this object writes ours."""

    def __init__(self, directory: Path, marks: Path) -> None:
        """`marks` is the file with the addresses that were leased last."""
        self._directory = directory
        self._marks = marks
        self._ours: dict[Attachment, Lease] = {}
        self._others: set[Address] = set()
        self._last: list[Address] = []

    def load(self) -> None:
        """Reads all records. Unreadable records are skipped; node/pod_records.py reports them."""
        self._ours, self._others = {}, set()
        for left in self._directory.glob(f".*{UNFINISHED}"):
            left.unlink()
        for path in self._directory.glob("*.json"):
            try:
                fields = json.loads(path.read_bytes())
                addresses = tuple(parse_address(text) for text in fields["addresses"])
                if "container_id" not in fields:
                    self._others.update(addresses)
                    continue
                lease = _lease(fields, addresses)
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
            self._ours[lease.attachment] = lease
        try:
            self._last = [parse_address(text) for text in json.loads(self._marks.read_bytes())]
        except (OSError, ValueError, TypeError):
            self._last = []

    def __iter__(self) -> Iterator[Lease]:
        return iter(list(self._ours.values()))

    def __len__(self) -> int:
        return len(self._ours)

    def find(self, attachment: Attachment) -> Lease | None:
        """The lease of an interface."""
        return self._ours.get(attachment)

    def used(self) -> set[Address]:
        """All addresses that are leased, also by others."""
        return self._others.union(*(lease.addresses for lease in self._ours.values()))

    @property
    def last(self) -> tuple[Address, ...]:
        """The addresses that were leased last."""
        return tuple(self._last)

    def keep(self, lease: Lease) -> None:
        """Writes the record. Once this returns, the lease survives any crash."""
        path = self._path(lease.attachment)
        write_file(path, json.dumps(_fields(lease)).encode(), durable=True)
        self._ours[lease.attachment] = lease
        self._last = list(lease.addresses)
        marks = json.dumps([format_address(a) for a in lease.addresses])
        write_file(self._marks, marks.encode(), durable=True)

    def release(self, attachment: Attachment) -> None:
        """Removes the record; a missing one is no error."""
        self._path(attachment).unlink(missing_ok=True)
        self._ours.pop(attachment, None)

    def _path(self, attachment: Attachment) -> Path:
        return self._directory / f"{_hash(attachment)[:32]}.json"


def _fields(lease: Lease) -> dict[str, object]:
    return {
        "namespace": lease.namespace,
        "name": lease.name,
        "uid": lease.uid,
        "addresses": [format_address(address) for address in lease.addresses],
        "interface": lease.interface,
        "mac": format_mac(lease.mac),
        "netns": lease.netns,
        "container_id": lease.attachment.container_id,
        "ifname": lease.attachment.ifname,
        "network": lease.network,
    }


def _lease(fields: dict[str, str], addresses: tuple[Address, ...]) -> Lease:
    attachment = Attachment(fields["container_id"], fields["ifname"])
    namespace, name, uid = fields["namespace"], fields["name"], fields["uid"]
    network, netns = fields["network"], fields["netns"]
    return Lease(attachment, network, namespace, name, uid, netns, addresses)
