# SPDX-License-Identifier: Apache-2.0
"""The record of what was changed on a node: recorded first, undone newest first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kubypass.errors import KernelError
from kubypass.node.record import Change, Kind, Record

FORWARD = Change(Kind.SYSCTL, "net.ipv4.ip_forward", "0")
PORTS = Change(Kind.SYSCTL, "net.ipv4.ip_local_reserved_ports", "")
FILTERS = Change(Kind.FILTERS, "eth0")


def test_what_is_recorded_survives_its_process(tmp_path: Path) -> None:
    record = Record(tmp_path)
    assert record.changes == ()
    record.add(FORWARD)
    record.add(FILTERS)
    assert Record(tmp_path).changes == (FORWARD, FILTERS)


def test_the_first_value_of_a_subject_is_the_original(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.add(FORWARD)
    record.add(Change(Kind.SYSCTL, FORWARD.subject, "1"))
    assert record.changes == (FORWARD,)


def test_changes_are_undone_newest_first_and_forgotten(tmp_path: Path) -> None:
    record = Record(tmp_path)
    for change in (FORWARD, FILTERS, PORTS):
        record.add(change)
    undo = {Kind.SYSCTL: lambda change: [change.subject]}
    assert record.undo(undo) == [PORTS.subject, FORWARD.subject]
    assert Record(tmp_path).changes == (FILTERS,), "nobody said how to undo this kind"
    assert record.undo(undo) == []
    assert record.undo({Kind.FILTERS: lambda _: []}) == []
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_undone_stays_recorded(tmp_path: Path) -> None:
    def fail(change: Change) -> list[str]:
        if change == FORWARD:
            raise KernelError("write sysctl", change.subject, 1)
        return ["done"]

    record = Record(tmp_path)
    record.add(FORWARD)
    record.add(PORTS)
    with pytest.raises(KernelError):
        record.undo({Kind.SYSCTL: fail})
    assert Record(tmp_path).changes == (FORWARD,)


def test_a_record_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    fields = {
        "signature": "0123",
        "tcx": False,
        "devices": ["eth0", "lo"],
        "mounted_bpffs": True,
        "sysctls": {FORWARD.subject: "0"},
        "cni_conf_dir": "/etc/cni/net.d",
        "cni_bin_dir": "/opt/cni/bin",
    }
    (tmp_path / "state.json").write_text(json.dumps(fields))
    changes = (
        Change(Kind.MOUNT, "/sys/fs/bpf"),
        FORWARD,
        FILTERS,
        Change(Kind.FILTERS, "lo"),
        Change(Kind.CNI_PLUGIN, "/opt/cni/bin"),
        Change(Kind.CNI_CONFIGURATION, "/etc/cni/net.d"),
    )
    assert Record(tmp_path).changes == changes
    (tmp_path / "state.json").unlink()
    assert Record(tmp_path).changes == changes


def test_filters_are_only_where_there_was_no_tcx(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(json.dumps({"tcx": True, "devices": ["eth0"]}))
    assert Record(tmp_path).changes == ()
