# SPDX-License-Identifier: Apache-2.0
"""Measures what it costs that packets of pods go through the node's stack: BPF host routing next to legacy, in turns.

A pod asks another one by its own address, so that nothing is translated: what differs is how the node forwards. The
nodes have a stateful firewall in every turn, since legacy host routing is for nodes that have one. Ratios are
p50(BPF) / p50(mode) of the same round: 1.0 is no cost.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

from kubypass_lab.bench.turns import Say, Target, box_for_turns, measure_turns
from kubypass_lab.box.box import Box
from kubypass_lab.box.record import read_pods
from kubypass_lab.checkout import GUIDE

_LEGACY = 'enable-host-legacy-routing: "true"\n'
MODES = {
    "BPF": "",
    "legacy": _LEGACY,
    "no conntrack": _LEGACY + 'install-no-conntrack-iptables-rules: "true"\n',
}
_NAME = "benchrouting"
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
    with box_for_turns(_NAME, GUIDE / "config-sample.yaml", say) as box:
        for node in box.topology.nodes:
            _load(box, node.name)
        rows = measure_turns(box, MODES, _targets(box), rounds=rounds, requests=requests, say=say)
    return {"rounds": rounds, "requests": requests, "rows": rows}


def _targets(box: Box) -> Iterator[Target]:
    pods = read_pods(box.paths)
    client = next(pod for pod in pods if pod.labels["app"] == "client")
    for server in pods:
        if server.labels["app"] == "web":
            where = "same node" if server.node == client.node else "another node"
            address = next(text for text in server.addresses if ":" not in text)
            yield Target(where, client.name, f"{address}:80")


def _load(box: Box, node: str) -> None:
    command = ["ip", "netns", "exec", box.paths.namespace(node), "nft", "-f", "-"]
    subprocess.run(command, input=_FIREWALL, text=True, check=True)
