# SPDX-License-Identifier: Apache-2.0
"""Boxes that are made twice, left half made, abandoned by their makers, and scaled."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubypass.errors import ConfigError, KubypassError
from kubypass_lab.box.apply import apply_files, scale
from kubypass_lab.box.box import Box, down, open_box, up
from kubypass_lab.box.files import write_json
from kubypass_lab.box.paths import BoxPaths
from kubypass_lab.box.process import cgroup_processes, kill_cgroup
from kubypass_lab.box.record import read_pods
from tests.box.conftest import GUIDE, box_name

SETTINGS = GUIDE / "cilium-config.yaml"
KUBEKEY = GUIDE / "config-sample.yaml"


@pytest.fixture
def name() -> Iterator[str]:
    name = box_name("lif")
    yield name
    down(name, lambda _: None)


@pytest.fixture
def box(name: str) -> Box:
    """A box without agents."""
    return up(name, KUBEKEY, SETTINGS, lambda _: None, with_agents=False)


def assert_gone(name: str) -> None:
    paths = BoxPaths(name)
    assert not paths.root.exists()
    assert paths.namespaces() == []
    assert not paths.cgroup.exists()
    assert str(paths.root) not in Path("/proc/mounts").read_text()


def test_up_twice_says_what_exists(box: Box) -> None:
    lines: list[str] = []
    again = up(box.paths.name, KUBEKEY, SETTINGS, lines.append, with_agents=False)
    assert again == box
    assert "is up already" in lines[0]


def test_down_removes_everything(box: Box) -> None:
    apply_files(box, [GUIDE / "my-nginx.yaml"], lambda _: None)
    assert cgroup_processes(box.paths.cgroup)
    assert down(box.paths.name, lambda _: None)
    assert_gone(box.paths.name)
    assert not down(box.paths.name, lambda _: None)


def test_half_made_box_is_not_open_and_goes_away(box: Box) -> None:
    write_json(box.paths.description, {"ready": False})
    with pytest.raises(KubypassError, match="half made"):
        open_box(box.paths.name)
    down(box.paths.name, lambda _: None)
    assert_gone(box.paths.name)


def test_processes_are_told_from_strangers_by_start_time(box: Box) -> None:
    write_json(box.paths.agent_run("node2") / "agent.json", {"pid": 1, "start": 1})
    down(box.paths.name, lambda _: None)
    assert Path("/proc/1").is_dir()


def test_apply_again_scales_and_repairs(box: Box, tmp_path: Path) -> None:
    lines: list[str] = []
    manifest = tmp_path / "my-nginx.yaml"
    manifest.write_text((GUIDE / "my-nginx.yaml").read_text())
    apply_files(box, [manifest], lines.append)
    apply_files(box, [manifest], lines.append)
    assert lines[2:] == ["deployment.apps/my-nginx unchanged", "service/my-nginx unchanged"]
    assert [pod.node for pod in read_pods(box.paths)] == ["k8s-single", "node2"]

    manifest.write_text(manifest.read_text().replace("replicas: 2", "replicas: 3"))
    apply_files(box, [manifest], lines.append)
    assert lines[-2] == "deployment.apps/my-nginx configured"
    assert len(read_pods(box.paths)) == 3

    victim = read_pods(box.paths)[0]
    kill_cgroup(box.paths.pod_cgroup(victim.node, victim.id))
    apply_files(box, [manifest], lines.append)
    pods = read_pods(box.paths)
    assert [pod.state for pod in pods] == ["ready"] * 3
    assert victim not in pods

    scale(box, "deployment/my-nginx", 0, lines.append)
    assert read_pods(box.paths) == []
    (path,) = box.paths.manifests.glob("endpoints_*.json")
    assert json.loads(path.read_text())["endpoints"] == []


def test_errors_do_not_stop_the_rest(box: Box, tmp_path: Path) -> None:
    manifest = tmp_path / "objects.yaml"
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\n"
    bad = f"{service}spec: {{ports: [{{port: 70000}}]}}\n---\n"
    manifest.write_text(bad + (GUIDE / "my-nginx.yaml").read_text())
    lines: list[str] = []
    with pytest.raises(ConfigError, match=r"spec\.ports"):
        apply_files(box, [manifest], lines.append)
    assert lines == ["deployment.apps/my-nginx created", "service/my-nginx created"]
    assert len(read_pods(box.paths)) == 2


def test_slices_get_the_defaults_of_the_api_server(box: Box, tmp_path: Path) -> None:
    manifest = tmp_path / "slice.yaml"
    labels = "{kubernetes.io/service-name: web}"
    text = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
    text += f"metadata: {{name: web-1, labels: {labels}}}\naddressType: IPv4\n"
    manifest.write_text(f"{text}ports: [{{port: 80}}]\nendpoints: [{{addresses: [192.0.2.1]}}]\n")
    apply_files(box, [manifest], lambda _: None)
    (path,) = box.paths.manifests.glob("endpointslice*.json")
    assert json.loads(path.read_text())["ports"] == [{"name": "", "protocol": "TCP", "port": 80}]


@pytest.mark.parametrize("after_s", [0.1, 0.2, 0.3])
def test_maker_killed_half_way(name: str, after_s: float) -> None:
    program = "import sys; from pathlib import Path; from kubypass_lab.box.box import up;"
    program += "up(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), print, with_agents=False)"
    command = [sys.executable, "-c", program, name, str(KUBEKEY), str(SETTINGS)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as maker:
        with contextlib.suppress(subprocess.TimeoutExpired):
            maker.wait(after_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(maker.pid, signal.SIGKILL)  # with its `ip`, which would go on
    box = up(name, KUBEKEY, SETTINGS, lambda _: None, with_agents=False)
    assert open_box(name) == box
    down(name, lambda _: None)
    assert_gone(name)
