# SPDX-License-Identifier: Apache-2.0
"""Real agents on a node of their own: bad input, restarts, upgrades. Every wait is for a condition."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any, TypeVar

import pytest

from kubypass.datapath import layout
from kubypass_lab.bench.cluster import named_service, named_slice, write_cluster, write_file
from kubypass_lab.bench.node import BareNode, agent, bare_node
from tests.agent.commands import command, one_service
from tests.agent.undo import problems
from tests.program import KUBYPASS
from tests.waiting import wait

T = TypeVar("T")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")


@pytest.fixture
def node() -> Iterator[BareNode]:
    with bare_node() as made:
        yield made


def start(node: BareNode, **changes: str) -> subprocess.CompletedProcess[str]:
    """An agent that is expected to refuse."""
    options = {
        "manifests": str(node.manifests),
        "run": str(node.run),
        "bpffs": str(node.root / "bpf"),
        "cgroup": str(node.cgroup),
        **changes,
    }
    return command(node, "agent", *(f"--{name}={value}" for name, value in options.items()))


def frontends(node: BareNode) -> dict[str, list[str]]:
    rows = json.loads(node.ask("/services")[1])["services"]
    return {row["frontend"]: [b["address"] for b in row["backends"]] for row in rows}


def test_a_malformed_file_is_one_problem_and_the_rest_goes_on(node: BareNode) -> None:
    one_service(node)
    with agent(node):
        (node.manifests / "broken.yaml").write_text("kind: Service\nmetadata: {name: [\n")
        (line,) = wait(lambda: problems(node), "a problem")
        assert "broken.yaml" in line
        write_file(node.manifests / "slice.json", named_slice("web", ["10.1.0.2"], 80))
        wait(
            lambda: frontends(node) == {"10.96.0.1:80/TCP": ["10.1.0.2:80/TCP"]}, "the new backend"
        )
        (node.manifests / "broken.yaml").unlink()
        wait(lambda: not problems(node), "the problem to be gone")


def test_bad_objects_are_problems_that_name_them(node: BareNode) -> None:
    one_service(node)
    impossible: dict[str, Any] = named_service("impossible", "10.96.0.2")
    impossible["spec"]["ports"] = [{"port": 70000}]
    write_file(node.manifests / "impossible.json", impossible)
    write_file(node.manifests / "rival.json", named_service("zweb", "10.96.0.1"))
    with agent(node):
        text = "\n".join(problems(node))
        assert "impossible" in text
        assert "70000" in text
        assert "zweb" in text
        assert "10.96.0.1:80/TCP" in frontends(node)


def test_a_second_agent_is_refused(node: BareNode) -> None:
    with agent(node):
        done = start(node)
    assert done.returncode == 2
    assert "an agent runs already (pid " in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bpffs": "/tmp"}, "not on a bpf filesystem"),
        ({"cgroup": "/tmp"}, "not a directory of cgroup v2"),
        ({"manifests": "/nonexistent"}, "no such file or directory"),
        ({"config": "/nonexistent"}, "No such file or directory"),
        ({"routing-mode": "tunnel"}, "routing-mode"),
        ({"devices": "eth9"}, "no such device"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_host_or_setting_that_is_wrong_gets_one_line(
    node: BareNode, changes: dict[str, str], words: str
) -> None:
    done = start(node, **changes)
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_full_map_is_a_problem_and_everything_else_is_served(node: BareNode) -> None:
    write_cluster(node.manifests, 120, 10)
    write_file(node.root / "settings.yaml", {"bpf-lb-service-backend-map-max": 1024})
    with agent(node, "--config", str(node.root / "settings.yaml")):
        found = problems(node)
        assert all("bpf-lb-service-backend-map-max" in line for line in found)
        served = [name for name, backends in frontends(node).items() if backends]
        lost = [
            line for line in found if line.startswith("Service ")
        ]  # the map itself may be one, too
        assert len(lost) + len(served) == 120
        assert len(served) > 90


def test_killed_and_started_again_it_writes_nothing(node: BareNode) -> None:
    write_cluster(node.manifests, 50, 4)
    with agent(node):
        before = frontends(node)
        os.kill(node.status()["agent"]["pid"], 9)
    with agent(node):
        assert set(node.status()["writes"].values()) == {0}
        assert frontends(node) == before


def test_a_change_made_while_it_was_away_is_taken_in(node: BareNode) -> None:
    one_service(node)
    with agent(node):
        pass
    write_file(node.manifests / "slice.json", named_slice("web", ["10.1.0.1", "10.1.0.2"], 80))
    with agent(node):
        assert frontends(node) == {"10.96.0.1:80/TCP": ["10.1.0.1:80/TCP", "10.1.0.2:80/TCP"]}


def test_another_map_size_keeps_the_flows(node: BareNode) -> None:
    from kubypass.datapath.sizes import kernel_sizes
    from kubypass.kernel.bpf import Map, possible_cpus

    one_service(node)
    key = layout.Tuple(bytes(16), bytes(16), 1, 2, 6).pack()
    pin = node.root / "bpf/kubypass" / layout.LAYOUT_HASH / "flows"
    with agent(node):
        flows = Map.open_pinned(str(pin))
        living = layout.Flow.unpack(bytes(layout.FLOW_SIZE))._replace(expires_ns=1 << 62)
        flows.update(key, living.pack())
    write_file(node.root / "settings.yaml", {"bpf-ct-global-tcp-max": 4096})
    with agent(node, "--config", str(node.root / "settings.yaml")):
        flows = Map.open_pinned(str(pin))
        assert flows.info.max_entries == kernel_sizes({"flows": 8192}, possible_cpus())["flows"]
        assert flows.lookup(key) is not None
        assert "flows: 1 entries were carried over" in (node.root / "agent.log").read_text()


def test_maps_of_another_version_are_replaced_and_it_says_so(node: BareNode) -> None:
    one_service(node)
    stale = node.root / "bpf/kubypass/0123456789ab"
    stale.mkdir(parents=True)
    with agent(node):
        assert not stale.exists()
        assert "maps of another layout (0123456789ab)" in (node.root / "agent.log").read_text()


def test_cleanup_refuses_while_the_agent_runs_and_is_idempotent(node: BareNode) -> None:
    one_service(node)
    with agent(node):
        refused = command(node, "cleanup", *node.options)
        assert (refused.returncode, "an agent runs" in refused.stderr) == (2, True)
    assert command(node, "cleanup", *node.options).returncode == 0
    assert not (node.root / "bpf/kubypass").exists()
    again = command(node, "cleanup", *node.options)
    assert (again.returncode, again.stdout) == (0, "nothing of ours is on this node\n")


def test_status_without_an_agent_is_one_line(node: BareNode) -> None:
    done = command(node, "status", "--run", str(node.run))
    assert done.returncode == 1
    assert "no agent answers" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_routes_to_other_nodes_come_go_and_are_cleaned_up(node: BareNode) -> None:
    def routes() -> str:
        shown = subprocess.run(
            ["ip", "-n", node.namespace, "route", "show", "proto", "75"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return shown.stdout.strip()

    def peer(address: str) -> dict[str, object]:
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "peer"},
            "spec": {"podCIDR": "10.9.0.0/24", "podCIDRs": ["10.9.0.0/24"]},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        }

    write_file(node.manifests / "peer.json", peer("192.168.1.32"))
    with agent(node, "--auto-direct-node-routes=true"):
        assert routes() == "10.9.0.0/24 via 192.168.1.32 dev eth0"
        write_file(node.manifests / "peer.json", peer("192.168.1.33"))
        wait(lambda: routes() == "10.9.0.0/24 via 192.168.1.33 dev eth0", "the new route")
        write_file(node.manifests / "peer.json", peer("172.16.0.1"))
        (line,) = wait(lambda: problems(node), "a problem")
        assert "not on our link" in line
        write_file(node.manifests / "peer.json", peer("192.168.1.34"))
        wait(lambda: routes() == "10.9.0.0/24 via 192.168.1.34 dev eth0", "the last route")
    command(node, "cleanup", *node.options)
    assert not routes()


def test_without_root_it_says_so() -> None:
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", KUBYPASS, "agent", "--manifests", "/tmp"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "needs root" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_uplink_that_goes_and_comes_back(node: BareNode) -> None:
    """Services are followed meanwhile, also while the Node object changes and all is compared again."""
    one_service(node)

    def devices() -> str:
        found = node.status()["kube_proxy_replacement"]["devices"]
        return " ".join(found)

    def link(words: str) -> None:
        subprocess.run(
            ["ip", "-n", node.namespace, "-batch", "-"], input=words, text=True, check=True
        )

    def write_own(label: str) -> None:
        labels = {"topology.kubernetes.io/zone": label}
        item = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "bench", "labels": labels}}
        write_file(node.manifests / "node.json", item)

    def checks() -> float:
        return float(node.status()["timings"].get("check_s", 0.0))

    write_own("a")
    with agent(node, "--check-every", "0.2"):
        assert devices().startswith("eth0 192.168.1.31")
        link("link delete eth0\n")
        write_own("b")
        write_file(node.manifests / "slice.json", named_slice("web", ["10.1.0.2"], 80))
        wait(
            lambda: frontends(node) == {"10.96.0.1:80/TCP": ["10.1.0.2:80/TCP"]}, "the new backend"
        )
        before = checks()
        wait(lambda: checks() not in {before, 0.0}, "another look at everything")
        link(
            "link add eth0 type veth peer name far\nlink set eth0 up\nlink set far up\n"
            "addr add 192.168.1.41/24 dev eth0\n"
        )
        wait(lambda: devices().startswith("eth0 192.168.1.41"), "the uplink is back")
