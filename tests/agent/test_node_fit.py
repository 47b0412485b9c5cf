# SPDX-License-Identifier: Apache-2.0
"""An agent says what of its settings does not fit its node, and which rules of others its packets do not pass."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from kubypass.datapath.map_memory import map_memory
from kubypass.datapath.sizes import map_sizes
from kubypass.settings.settings import Settings
from kubypass_lab.bench.cluster import named_service, write_file
from kubypass_lab.bench.node import BareNode, bare_node
from kubypass_lab.box.patience import DEADLINE_S
from tests.agent.undo import on, problems, root, started, wait
from tests.program import KUBYPASS

pytestmark = pytest.mark.skipif(not root(), reason="needs root: loads BPF programs")
RULES = "table inet site { chain between { type filter hook forward priority 0; policy drop; }; }"


@pytest.fixture
def node() -> Iterator[BareNode]:
    with bare_node() as made:
        write_file(made.manifests / "service.json", named_service("web", "10.96.0.1"))
        yield made


def test_what_does_not_fit_is_said(node: BareNode) -> None:
    if shutil.which("nft"):
        on(node, "nft", RULES)
    reserved = "net.ipv4.ip_local_reserved_ports"
    with started(node, "--devices=eth0 ens9", "--node-port-range=30000,60900"):
        found = problems(node)
        assert any("Setting devices: no device of this node is called ens9" in p for p in found)
        assert any("Setting node-port-range: 30000,60900 would leave 99 of" in p for p in found)
        assert on(node, "sysctl", "-n", reserved).strip() == "", "connect() has ports left"
        if shutil.which("nft"):
            notes = " ".join(node.status()["notes"])
            assert "inet site between (0 rules, policy drop)" in notes
        on(node, "ip", "link", "add", "ens9", "type", "veth", "peer", "name", "ens9p")
        on(node, "ip", "link", "set", "ens9", "up")
        wait(node, lambda: not any("ens9" in p for p in problems(node)), "the device to take part")


def test_the_memory_of_maps_is_known_beforehand(node: BareNode) -> None:
    with started(node):
        maps = {row["name"]: row for row in node.status()["bpf_maps"]}
    real = sum(maps[name]["memory_bytes"] for name in map_sizes(Settings()).keys() & maps.keys())
    assert 0.9 < map_memory(Settings()) / real < 1.1


def test_maps_larger_than_the_node_are_refused(node: BareNode) -> None:
    sizes = ("bpf-ct-global-tcp-max", "bpf-lb-service-backend-map-max", "bpf-sock-rev-map-max")
    small = ["sh", "-c", 'mount --make-rprivate / && mount --bind "$0" /proc/meminfo && exec "$@"']
    info = node.root / "meminfo"
    info.write_text("MemTotal:        1048576 kB\n")
    words = ["nsenter", f"--net=/run/netns/{node.namespace}", "unshare", "-m", *small, str(info)]
    agent = ["agent", "--manifests", str(node.manifests), *node.agent_options]
    agent += [f"--{size}=16777216" for size in sizes]
    done = subprocess.run(
        [*words, KUBYPASS, *agent], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 2
    assert "and this node (or the agent's container) has 1024 MiB; make them smaller" in done.stderr
