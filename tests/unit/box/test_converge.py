# SPDX-License-Identifier: Apache-2.0
"""A pod that is ready is used only once the agent of its node has connected it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubypass_lab.box import agents, converge, paths
from kubypass_lab.box.box import Box
from kubypass_lab.box.files import Json
from kubypass_lab.box.kubekey import read_kubekey
from kubypass_lab.box.paths import BoxPaths
from kubypass_lab.box.record import PodRecord, write_pod
from kubypass_lab.box.topology import plan_topology

GUIDE = Path(__file__).parents[3] / "examples/guide"


def test_a_pod_without_ports_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(paths, "RUN", tmp_path)
    topology = plan_topology(read_kubekey(GUIDE / "config-sample.yaml"))
    box = Box(BoxPaths("converge"), topology, GUIDE / "cilium-config.yaml")
    box.paths.pods.mkdir(parents=True)
    box.paths.manifests.mkdir()
    node = box.nodes[0].name
    pod = PodRecord(
        "default", "visitor", "uid-1", node, "visitor", "", 0.0, {}, (), ("10.233.64.9",), "lxc1",
        state="ready",
    )  # fmt: skip
    write_pod(box.paths, pod)
    asked: list[str] = []

    def ask(_: BoxPaths, of: str, path: str) -> Json:
        asked.append(path)
        connected = of != node or asked.count("/pods") > 3
        pods = [{"uid": "uid-0", "connected": True}, {"uid": "uid-1", "connected": connected}]
        return {"services": [], "pods": pods}

    monkeypatch.setattr(agents, "ask", ask)
    monkeypatch.setattr(agents, "is_running", lambda *_: True)
    assert converge.wait_until_active(box)
    assert asked.count("/pods") > 3
