# SPDX-License-Identifier: Apache-2.0
"""Kernels without tcx: the same programs by clsact filters, replaced in place, and taken off."""

from __future__ import annotations

import os
import socket

import pytest

from kubypass.agent.cleanup import cleanup
from kubypass.datapath.attach import Attachments
from kubypass.datapath.loader import load_programs
from kubypass.kernel.attach.clsact import ClsactHook, remove_clsact
from kubypass.kernel.netns import inside
from kubypass.kernel.program import Program
from kubypass.node.record import Change, Kind, Record
from kubypass_lab.bench.node import bare_node

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")


def load() -> dict[str, Program]:
    sizes = {"flows": 1024, "backends": 64, "slots": 64}
    return load_programs(("host",), {}, sizes, lambda _: None)


def test_filters_are_attached_replaced_and_removed() -> None:
    with bare_node() as node, inside(f"/run/netns/{node.namespace}"):
        index = socket.if_nametoindex("eth0")
        attachments = Attachments(node.root / "links", tcx=False)
        first, second = load(), load()
        for programs in (first, first, second):
            for name in ("from_uplink", "to_uplink"):
                attachments.attach_device("eth0", index, name, programs[name])
        assert attachments.writes == 4, "what is there already is not attached again"
        assert ClsactHook(index, "ingress").program_id == second["from_uplink"].id
        assert ClsactHook(index, "egress").program_id == second["to_uplink"].id
        remove_clsact(index)
        assert ClsactHook(index, "ingress").program_id == 0
        remove_clsact(index)


def test_cleanup_removes_the_filters_that_the_record_names() -> None:
    with bare_node() as node, inside(f"/run/netns/{node.namespace}"):
        index = socket.if_nametoindex("eth0")
        node.run.mkdir(parents=True, exist_ok=True)
        Record(node.run).add(Change(Kind.FILTERS, "eth0"))
        programs = load()
        attachments = Attachments(node.root / "links", tcx=False)
        attachments.attach_device("eth0", index, "from_uplink", programs["from_uplink"])
        assert "removed the filters of eth0" in cleanup(node.run, node.root / "bpf", force=False)
        assert ClsactHook(index, "ingress").program_id == 0
        assert cleanup(node.run, node.root / "bpf", force=False) == []
