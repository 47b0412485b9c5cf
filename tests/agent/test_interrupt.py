# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C at any moment: nothing is half applied, nobody sees a traceback, and the next start makes it whole."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kubypass.datapath import layout
from kubypass.kernel.bpf import Map
from kubypass.model.verdict import BackendState, ServiceFlag
from kubypass_lab.bench.cluster import write_cluster
from kubypass_lab.bench.node import BareNode, agent, bare_node
from kubypass_lab.box.patience import DEADLINE_S

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")
SERVICES, ENDPOINTS = 2000, 5


def check_maps(node: BareNode) -> int:
    """Checks that every service leads to its live backends; returns how many services there are."""
    pins = node.root / "bpf/kubypass" / layout.LAYOUT_HASH
    if not (pins / "metrics").exists():
        return 0
    services, slots, backends = (
        Map.open_pinned(str(pins / n)) for n in ("services", "slots", "backends")
    )
    count = 0
    for _, raw in services.items():  # noqa: PERF102 -- a Map, not a dict
        service = layout.Service.unpack(raw)
        if service.flags & ServiceFlag.ADDRESS:
            continue
        assert service.backends == ENDPOINTS
        for slot in range(service.first_slot, service.first_slot + service.backends):
            number = slots.lookup(struct.pack("<I", slot))
            backend = layout.Backend.unpack(backends.lookup(number or b"") or b"")
            assert (backend.service, backend.state) == (service.id, BackendState.ACTIVE)
        count += 1
    return count


@pytest.mark.parametrize("delay_s", [0.1, 0.3, 0.5, 0.7, 0.9, 1.2])
def test_interrupted_start(delay_s: float) -> None:
    """The delay only chooses the moment; whatever it is, the same must hold."""
    with bare_node() as node:
        write_cluster(node.manifests, SERVICES, ENDPOINTS)
        command = [
            str(Path(sys.executable).parent / "kubypass"),
            "agent",
            "--manifests",
            str(node.manifests),
        ]
        process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{node.namespace}", *command, *node.agent_options],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        time.sleep(delay_s)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=2 * DEADLINE_S)
        assert (
            "Traceback" not in said or "src/kubypass" not in said
        )  # Python's own start cannot be guarded
        assert process.returncode in (0, 130, -signal.SIGINT)  # the last: before Python was there
        check_maps(node)
        with agent(node):
            assert check_maps(node) == SERVICES
