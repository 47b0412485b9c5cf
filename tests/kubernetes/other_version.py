# SPDX-License-Identifier: Apache-2.0
"""Another version of kubypass, whose maps have other structs, as an image of its own; and how agents get it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from kubypass_lab.box.enter import run_in
from kubypass_lab.box.kubernetes.cluster import Cluster
from kubypass_lab.box.kubernetes.kubectl import kubectl
from kubypass_lab.box.kubernetes.node import node_target
from kubypass_lab.box.kubernetes.node_files import CONTAINERD
from tests.agent.versions import change_structs, compile_objects
from tests.kubernetes.serving import AGENTS, ask_agent, wait_rolled_out

ROOT = Path(__file__).resolve().parents[2]
VERSION = "0.2.0"
_COPIED = ("Makefile", "bpf", "src", "deploy", "scripts", "cni", "pyproject.toml", "README.md")


def build_other_image(root: Path) -> Path:
    """Makes the image from a changed copy of this checkout in `root`; its archive."""
    for name in _COPIED:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, root / name)
    change_structs(root)
    project = root / "pyproject.toml"
    old = 'version = "0.1.0"'
    assert old in project.read_text()
    project.write_text(project.read_text().replace(old, f'version = "{VERSION}"'))
    objects, package = compile_objects(root), root / "src/kubypass"
    shutil.copytree(ROOT / "build/cni", root / "build/cni")
    own = {"PYTHONPATH": str(root / "src")}
    _run(sys.executable, "-m", "kubypass.datapath.generate", str(objects), str(package), **own)
    wheel = ["wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "-w"]
    _run(sys.executable, "-m", "pip", *wheel, str(root / "build/wheel"), str(root))
    _run(sys.executable, str(root / "scripts/build-image"), **own)
    return root / "build/image/kubypass.tar"


def _run(*command: str, **environment: str) -> None:
    subprocess.run(command, env={**os.environ, **environment}, check=True, timeout=300)


def import_image(cluster: Cluster, archive: Path) -> None:
    """Puts an image on all nodes, to stay over a reboot."""
    for node in cluster.nodes:
        name = f"{archive.stem}-{archive.stat().st_mtime_ns}.tar"
        shutil.copy(archive, cluster.paths.node_disk(node.name) / "lib/images" / name)
        command = [
            "ctr",
            "-a",
            CONTAINERD,
            "-n",
            "k8s.io",
            "images",
            "import",
            f"/var/lib/images/{name}",
        ]
        answer = run_in(node_target(cluster.paths, node.name), command, timeout_s=300)
        assert answer.returncode == 0, answer.stderr


def use_image(cluster: Cluster, image: str) -> None:
    kubectl(cluster.paths, "set", "image", *AGENTS, f"agent={image}")
    wait_rolled_out(cluster, "daemonset/kubypass", 180, "kube-system")


def layouts(cluster: Cluster) -> set[str]:
    """The layouts of the maps on all nodes."""
    said = [ask_agent(cluster, node.name, "status", "-o", "json") for node in cluster.nodes]
    return {str(json.loads(each)["layout"]) for each in said}
