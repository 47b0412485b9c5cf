# SPDX-License-Identifier: Apache-2.0
"""`kubypass pod list` in a box: pods are told as they are, by name and at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubypass_lab.box.process import wait_until
from tests.box.scene import Scene

pytestmark = pytest.mark.xdist_group("scenes")


def listed(scene: Scene, *arguments: str) -> list[dict[str, Any]]:
    output = scene.run("node1", "kubypass", "pod", "list", "-o", "json", *arguments)
    rows: list[dict[str, Any]] = json.loads(output)["pods"]
    return rows


def test_every_pod_of_the_node_is_connected(scene: Scene) -> None:
    here = {name: pod for name, pod in scene.pods.items() if scene.node_of(name) == "node1"}
    rows = {row["uid"]: row for row in listed(scene)}
    assert rows.keys() == {pod.uid for pod in here.values()}
    for pod in here.values():
        row = rows[pod.uid]
        assert row["connected"], row
        assert row["reason"] == ""
        assert tuple(row["addresses"]) == pod.addresses
        assert row["device"] == pod.interface
        assert row["mtu"] == 1500
        assert row["socket_lb"] == ("sockets" if scene.at_sockets else "packets")
        assert row["sources"] == "own"
    text = scene.run("node1", "kubypass", "pod", "list", "-o", "wide", here["a1"].name)
    head, line = text.splitlines()
    assert head.split() == [
        "Pod", "Addresses", "Device", "MTU", "State", "Socket", "LB", "Sources", "UID",
    ]  # fmt: skip
    assert line.split()[0] == f"default/{here['a1'].name}"
    assert here["a1"].uid in line


def test_a_pod_without_a_device_says_so(scene: Scene) -> None:
    """A record whose device is not there, and the options that narrow the list."""
    node = scene.box.topology.node("node1").name
    record = scene.box.paths.agent_run(node) / "pods" / "elsewhere_lost.json"
    record.write_text(
        json.dumps({
            "namespace": "elsewhere", "name": "lost", "uid": "u", "addresses": ["10.233.64.250"],
            "interface": "lxcnone", "mac": "02:00:00:00:00:01",
        })
    )  # fmt: skip
    try:
        rows: list[dict[str, Any]] = []

        def is_told() -> bool:
            rows[:] = listed(scene, "elsewhere/lost")
            return bool(rows) and "gets no traffic" in rows[0]["reason"]

        assert wait_until(is_told), rows
        assert not rows[0]["connected"]
        assert rows[0]["mtu"] is None
        assert [row["name"] for row in listed(scene, "-n", "elsewhere")] == ["lost"]
        assert "lost" not in [row["name"] for row in listed(scene, "-n", "default")]
        text = scene.run("node1", "kubypass", "pod", "list", "lost")
        assert "not connected: has no device lxcnone" in text
    finally:
        record.unlink()
