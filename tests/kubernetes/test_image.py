# SPDX-License-Identifier: Apache-2.0
"""The image starts, and its agent serves a node: no compiler, no checkout, nothing of this machine but its kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from kubypass.version import VERSION
from kubypass_lab.bench.cluster import named_service, named_slice, write_file
from kubypass_lab.bench.node import BareNode
from kubypass_lab.box.patience import DEADLINE_S

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = ROOT / "build/image/kubypass.tar"
PACKAGE = "usr/lib/python3/dist-packages/kubypass"
START = """
for each in proc sys {root}; do mkdir -p {image}/$each; mount --rbind /$each {image}/$each; done
exec nsenter --net=/run/netns/{namespace} chroot {image} /usr/bin/kubypass "$@"
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's files, unpacked."""
    done = subprocess.run(["make", "image"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    parts, root = tmp_path_factory.mktemp("parts"), tmp_path_factory.mktemp("image")
    subprocess.run(["tar", "-xf", ARCHIVE, "-C", parts], check=True)
    (described,) = json.loads((parts / "manifest.json").read_text())
    assert described["RepoTags"] == [f"docker.io/kubypass/kubypass:{VERSION}"]
    for name in described["Layers"]:
        subprocess.run(["tar", "-xf", parts / name, "-C", root], check=True)
    return root


def run(image: Path, node: BareNode, *words: str) -> subprocess.Popen[str]:
    """Runs kubypass of the image, in mounts of its own and in the node's network."""
    script = START.format(image=image, root=str(node.root).lstrip("/"), namespace=node.namespace)
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def said(image: Path, node: BareNode, *words: str) -> str:
    with run(image, node, *words) as process:
        assert process.stdout
        text = process.stdout.read()
    assert process.returncode == 0, text
    return text


def test_it_has_what_a_node_needs_and_no_more(image: Path) -> None:
    objects = {path.name for path in (image / PACKAGE / "bpf").iterdir()}
    assert {"socket.bpf.o", "bind.bpf.o", "pod.bpf.o", "host.bpf.o"} <= objects
    plugin = image / PACKAGE / "cni/plugin/kubypass-cni"
    assert os.access(plugin, os.X_OK)
    assert subprocess.run(["ldd", plugin], capture_output=True, check=False).returncode == 1, (
        "not static"
    )
    for name in ("gcc", "clang", "clang-19", "apt-get", "pip", "perl"):
        assert not list(image.glob(f"usr/bin/{name}"))
    assert ARCHIVE.stat().st_size < 100e6


def test_it_says_nothing_of_the_machine_that_made_it(image: Path) -> None:
    for name in ("hostname", "resolv.conf"):
        assert not (image / "etc" / name).exists()
    assert not list(image.rglob("direct_url.json"))
    assert image.stat().st_mode & 0o7777 == 0o755


def test_it_says_its_version(image: Path, node: BareNode) -> None:
    assert said(image, node, "version").startswith(f"kubypass {VERSION}, libbpf ")


def test_it_installs_from_its_own_files(image: Path, node: BareNode) -> None:
    text = said(image, node, "install", "-o", "yaml", "--set", "k8sServiceHost=192.168.1.10")
    kinds = [line.removeprefix("kind: ") for line in text.splitlines() if line.startswith("kind: ")]
    assert {"DaemonSet", "ValidatingAdmissionPolicyBinding"} <= set(kinds)
    assert len(kinds) == len(set(kinds)), kinds


def test_its_agent_serves_a_node(image: Path, node: BareNode) -> None:
    write_file(node.manifests / "service.json", named_service("web", "10.96.0.1"))
    write_file(node.manifests / "slice.json", named_slice("web", ["192.168.1.50"], 8080))
    options = ["--manifests", str(node.manifests), "--node", "n1", *node.agent_options]
    agent = run(image, node, "agent", *options)
    assert agent.stdout
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not ((node.run / "agent.sock").exists() and node.ask("/healthz")[0] == 200):
            assert agent.poll() is None, agent.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "10.96.0.1:80/TCP" in said(image, node, "service", "list", "--run", str(node.run))
        assert "KubeProxyReplacement:    True" in said(
            image, node, "status", "--run", str(node.run)
        )
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait(DEADLINE_S)
        agent.stdout.close()
    assert agent.returncode == 0
    said(image, node, "cleanup", *node.options)
