# SPDX-License-Identifier: Apache-2.0
"""Measures what it costs that packets of pods go through the node's stack: BPF host routing next to legacy, in turns.

A pod asks another one by its own address (paired.c), so that nothing is translated: what differs is how the node
forwards. The nodes have a stateful firewall in every turn, since legacy host routing is for nodes that have one.
Ratios are p50(BPF) / p50(mode) of the same round: 1.0 is no cost.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from kubypass.errors import KubypassError
from kubypass_lab.bench.connect import WORKLOADS
from kubypass_lab.box import agents
from kubypass_lab.box.apply import apply_files
from kubypass_lab.box.box import Box, down, up
from kubypass_lab.box.enter import find_target, run_in
from kubypass_lab.box.record import PodRecord, read_pods
from kubypass_lab.checkout import BUILD, GUIDE

Say = Callable[[str], None]
_LEGACY = 'enable-host-legacy-routing: "true"\n'
MODES = {
    "BPF": "",
    "legacy": _LEGACY,
    "no conntrack": _LEGACY + 'install-no-conntrack-iptables-rules: "true"\n',
}
_NAME = "benchrouting"
_PAIRED = BUILD / "bench/paired"
_FIREWALL = """
table inet firewall {
  chain forward {
    type filter hook forward priority filter; policy accept;
    ct state established,untracked accept
    ct state invalid drop
  }
}
"""


def measure(rounds: int, requests: int, say: Say) -> dict[str, object]:
    """Figures by where the other pod is, kind of connection, and mode."""
    if not _PAIRED.exists():
        raise KubypassError(f"{_PAIRED} is missing", "run make build")
    with tempfile.TemporaryDirectory() as directory:
        settings = Path(directory) / "settings.yaml"
        settings.write_text((GUIDE / "cilium-config.yaml").read_text())
        workloads = Path(directory) / "workloads.yaml"
        workloads.write_text(WORKLOADS)
        try:
            box = up(_NAME, GUIDE / "config-sample.yaml", settings, say)
            apply_files(box, [workloads], say)
            for node in box.topology.nodes:
                _load(box, node.name)
            found = _rounds(box, settings, rounds, requests, say)
        finally:
            down(_NAME, say)
    return {"rounds": rounds, "requests": requests, "rows": [_row(*one) for one in found.items()]}


_Times = dict[str, list[float]]


def _rounds(
    box: Box, settings: Path, rounds: int, requests: int, say: Say
) -> dict[tuple[str, str], _Times]:
    """The p50 of each round in microseconds."""
    base, found = settings.read_text(), dict[tuple[str, str], _Times]()
    pods = read_pods(box.paths)
    client = next(pod for pod in pods if pod.labels["app"] == "client")
    servers = [pod for pod in pods if pod.labels["app"] == "web"]
    for number in range(rounds):
        for mode, more in MODES.items():
            settings.write_text(f"{base}\n{more}")
            agents.stop_agents(box.paths)
            agents.start_agents(box.paths, box.topology, settings)
            for server in servers:
                where = "same node" if server.node == client.node else "another node"
                for kind, words in (("new", []), ("keep-alive", ["--keepalive"])):
                    us = _ask(box, client, server, [*words, "--rounds", str(requests)])
                    found.setdefault((where, kind), {}).setdefault(mode, []).append(us)
        say(f"round {number + 1} of {rounds}")
    settings.write_text(base)
    return found


def _ask(box: Box, client: PodRecord, server: PodRecord, words: list[str]) -> float:
    address = next(text for text in server.addresses if ":" not in text)
    command = ["taskset", "-c", "0", str(_PAIRED), *words, f"direct={address}:80"]
    done = run_in(find_target(box, f"pod/{client.name}"), command)
    if done.returncode:
        raise KubypassError(f"paired: {done.stderr.strip()}")
    return float(json.loads(done.stdout)["direct"]["p50_us"])


def _load(box: Box, node: str) -> None:
    command = ["ip", "netns", "exec", box.paths.namespace(node), "nft", "-f", "-"]
    subprocess.run(command, input=_FIREWALL, text=True, check=True)


def _row(what: tuple[str, str], times: _Times) -> dict[str, object]:
    """The median p50 of each mode, and the ratios of rounds."""
    ratios = {
        mode: [bpf / us for bpf, us in zip(times["BPF"], some, strict=True)]
        for mode, some in times.items()
    }
    return {
        "backend": what[0],
        "connections": what[1],
        "p50_us": {mode: round(statistics.median(some), 1) for mode, some in times.items()},
        "ratio": {
            mode: {
                "median": round(statistics.median(some), 3),
                "min": round(min(some), 3),
                "max": round(max(some), 3),
            }
            for mode, some in ratios.items()
        },
    }
