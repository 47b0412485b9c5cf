# SPDX-License-Identifier: Apache-2.0
"""DSR on three nodes: the network moves connections, a path drops the option, and the mode changes, all under load."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kubypass_lab.box import agents
from kubypass_lab.box.apply import apply_files
from kubypass_lab.box.box import down, up
from kubypass_lab.box.enter import find_target
from kubypass_lab.box.paths import CLIENT, FABRIC
from kubypass_lab.box.patience import DEADLINE_S
from kubypass_lab.box.process import is_alive, spawn, stop, wait_until
from kubypass_lab.box.wiring import ip_batch
from tests.box.conftest import HERE, Cluster, box_name, guide_settings, with_everywhere
from tests.box.direct_service import CLIENT_ADDRESS, SERVICE, VIP

pytestmark = pytest.mark.xdist_group("dsr-moves")
NODES = ("node1", "node2", "node3")
MODE = 'bpf-lb-dsr-dispatch: auto\nbpf-lb-algorithm: maglev\nbpf-lb-maglev-table-size: "1021"\n'
DROPPED = """
table netdev options {{
  chain arriving {{
    type filter hook ingress devices = {{ {ports} }} priority 0; policy accept;
    ip hdrlength > 5 drop
    ip6 nexthdr 60 drop
    udp dport 6081 drop
  }}
}}
"""
"""A network whose switches drop packets with options, and Geneve."""


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The third node has no server: all that it balances goes elsewhere."""
    settings = guide_settings(tmp_path_factory.mktemp("moves"), f"bpf-lb-mode: dsr\n{MODE}")
    name = box_name("dsm")
    try:
        box = up(name, HERE / "three_nodes.yaml", with_everywhere(settings), print)
        apply_files(box, [HERE / "cluster.yaml"], print)
        cluster = Cluster(box)
        cluster.apply(SERVICE.format(annotations=""))
        assert wait_until(lambda: dispatches(cluster) == {"opt"}, DEADLINE_S), all_peers(cluster)
        yield cluster
    finally:
        down(name, lambda _: None)


def all_peers(cluster: Cluster) -> list[dict[str, Any]]:
    modes = [dict(cluster.status(node)["forwarding_mode"]) for node in NODES]
    return [peer for mode in modes for peer in mode.get("peers", ())]


def dispatches(cluster: Cluster) -> set[str]:
    """How nodes reach each other: each one both others, in both families."""
    found = all_peers(cluster)
    return {str(peer["dispatch"]) for peer in found} if len(found) == 12 else {"not yet"}


def route(cluster: Cluster, node: str) -> None:
    """The network sends the service's addresses to this node."""
    for version, bits in ((4, 32), (6, 128)):
        via = cluster.box.topology.node(node).address(version)
        line = f"route replace {VIP[version]}/{bits} via {via}"
        ip_batch(cluster.box.paths.namespace(FABRIC), [line])


@contextmanager
def streams(
    cluster: Cluster, host: str, plan: list[dict[str, str]], directory: Path
) -> Iterator[Path]:
    """Asks without end from a host; yields the log."""
    name = host.replace("/", "-")
    path, log = directory / f"{name}.plan", directory / f"{name}.log"
    path.write_text(json.dumps(plan))
    found = find_target(cluster.box, cluster.full_name(host))
    command = [sys.executable, str(HERE / "streamer.py"), str(path), str(log)]
    process = spawn(
        command, cgroup=found.cgroup, namespace=found.namespace,
        log=directory / f"{name}.errors", env=found.env,
    )  # fmt: skip
    try:
        more(log)
        yield log
        assert is_alive(process)
    finally:
        stop(process, signal.SIGTERM, DEADLINE_S)


def outcomes(log: Path) -> list[tuple[int, str]]:
    """Stream and outcome of each question so far."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [(line[2], line[3]) for line in map(json.loads, lines)]


def more(*logs: Path, count: int = 150) -> None:
    """Returns once so many more questions have their outcome."""
    wanted = {log: len(outcomes(log)) + count for log in logs}
    assert wait_until(
        lambda: all(len(outcomes(log)) >= number for log, number in wanted.items()), 2 * DEADLINE_S
    ), wanted


def to_vip(kinds: dict[str, tuple[str, ...]]) -> list[dict[str, str]]:
    """Streams to the load balancer's addresses; their kinds by protocol."""
    ports = {"TCP": "8000", "UDP": "53"}
    return [
        {"kind": kind, "protocol": protocol, "address": VIP[version], "port": ports[protocol]}
        for version in (4, 6)
        for protocol, some in kinds.items()
        for kind in some
    ]


def test_connections_move_with_the_network(three: Cluster, tmp_path: Path) -> None:
    """Another node gets them in mid flow, again and again: they go on, and each has one pod all the time."""
    route(three, "node3")
    plan = to_vip({"TCP": ("kept",) * 4, "UDP": ("kept",) * 4})
    with streams(three, CLIENT, plan, tmp_path) as log:
        for node in ("node1", "node2", "node3", "node2", "node1", "node3"):
            route(three, node)
            more(log)
    found = outcomes(log)
    assert {outcome.split()[0] for _, outcome in found} == {"ok"}, set(found)
    assert len(set(found)) == len(plan), "each stream has stayed with its pod"
    assert len({outcome for _, outcome in found}) == 2, "and both pods have some"


def test_a_path_that_drops_every_dispatch(three: Cluster, tmp_path: Path) -> None:
    """The probe finds it out, new connections and open flows of datagrams are masqueraded, and later it is over."""
    route(three, "node3")
    assert wait_until(lambda: dispatches(three) == {"opt"}, DEADLINE_S), all_peers(three)
    with streams(three, CLIENT, to_vip({"TCP": ("kept",), "UDP": ("kept",)}), tmp_path) as log:
        with dropped(three):
            assert wait_until(lambda: dispatches(three) == {"snat"}, DEADLINE_S), all_peers(three)
            whys = {peer["why"] for peer in all_peers(three)}
            assert all("does not arrive there" in why for why in whys), whys
            assert not three.problems("DSR", "node3")
            assert three.status("node3")["forwarding_mode"]["effective"] == "SNAT"
            begin = len(outcomes(log))
            more(log, count=300)
            kept = {outcome.split()[0] for _, outcome in outcomes(log)[begin + 20 :]}
            assert kept == {"ok"}
            for version in (4, 6):
                assert seen(three, version) == {address_of(three, version)}
        assert wait_until(lambda: dispatches(three) == {"opt"}, DEADLINE_S), all_peers(three)
        more(log)
        assert {outcome.split()[0] for _, outcome in outcomes(log)[begin + 20 :]} == {"ok"}
    for version in (4, 6):
        assert seen(three, version) == {CLIENT_ADDRESS[version]}


def address_of(cluster: Cluster, version: int) -> str:
    """The third node's."""
    return str(cluster.box.topology.node("node3").address(version))


def seen(cluster: Cluster, version: int) -> set[str]:
    """The client's addresses, as pods saw them."""
    address = f"[{VIP[6]}]" if version == 6 else VIP[4]
    answers = [cluster.ask(CLIENT, "TCP", address, 8000) for _ in range(6)]
    return {answer["client"].rpartition(":")[0].strip("[]") for answer in answers}


@contextmanager
def dropped(cluster: Cluster) -> Iterator[None]:
    """The network between the nodes drops packets with options, and Geneve."""
    inside = ["ip", "netns", "exec", cluster.box.paths.namespace(FABRIC)]
    links = json.loads(
        subprocess.run(
            [*inside, "ip", "-j", "link", "show"], capture_output=True, text=True, check=True
        ).stdout
    )
    ports = ", ".join(link["ifname"] for link in links if "master" in link)
    script = DROPPED.format(ports=ports)
    subprocess.run([*inside, "nft", "-f", "-"], input=script, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run([*inside, "nft", "delete", "table", "netdev", "options"], check=True)


def restart(cluster: Cluster, lines: str) -> None:
    """The agents begin again with these settings beside the box's own."""
    paths, settings = cluster.box.paths, cluster.box.settings
    kept = [one for one in settings.read_text().splitlines() if not one.startswith("bpf-lb-mode")]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False) as file:
        file.write("\n".join((*kept, lines, "")))
    agents.stop_agents(paths)
    agents.start_agents(paths, cluster.box.topology, Path(file.name))


def test_the_mode_changes_under_load(three: Cluster, tmp_path: Path) -> None:
    """Connections of pods and open TCP connections of the client lose nothing; each mode serves what is new."""
    route(three, "node3")
    inside = [
        {"kind": kind, "protocol": protocol, "port": port,
         "address": three.host(version, "echo").strip("[]")}
        for version in (4, 6)
        for protocol, port in (("TCP", "80"), ("UDP", "53"))
        for kind in ("kept", "new" if protocol == "TCP" else "fresh")
    ]  # fmt: skip
    outside = to_vip({"TCP": ("kept",) * 3})
    with (
        streams(three, CLIENT, outside, tmp_path) as log,
        streams(three, f"pod/{three.pods('visitor')[0].name}", inside, tmp_path) as log_of_pod,
    ):
        for mode, sees_client in (
            ("snat", False),
            ("dsr", True),
            ("hybrid", True),
            ("snat", False),
        ):
            restart(three, f"bpf-lb-mode: {mode}")
            if sees_client:
                assert wait_until(lambda: dispatches(three) == {"opt"}, DEADLINE_S)
            more(log, log_of_pod)
            for version in (4, 6):
                wanted = CLIENT_ADDRESS[version] if sees_client else address_of(three, version)
                assert seen(three, version) == {wanted}, mode
    for each in (log, log_of_pod):
        wrong = [one for one in outcomes(each) if not one[1].startswith("ok ")]
        assert not wrong, (each.name, wrong)
