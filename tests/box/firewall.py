# SPDX-License-Identifier: Apache-2.0
"""A stateful host firewall on the nodes of a box, as operators have them, and what it counts."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from kubypass_lab.box.box import Box
from tests.box.scene import Scene

ANY_NEW = """
table inet firewall {
  chain forward {
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
    ct state invalid counter drop comment "invalid"
  }
}
"""
"""Connections may begin anywhere."""
NAMES = ("established", "related", "untracked", "invalid", "new", "dropped")
_STATEFUL = """
table inet firewall {
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state established counter accept comment "established"
    ct state related counter accept comment "related"
    ct state untracked counter accept comment "untracked"
    ct state invalid counter drop comment "invalid"
    tcp dport { 80, 8080, 8081, 8088, 30000-32767 } ct state new counter accept comment "new"
    udp dport { 5353, 8080, 8088, 30000-32767 } ct state new counter accept comment "new"
    sctp dport { 8080, 30000-32767 } ct state new counter accept comment "new"
    icmp type echo-request counter accept comment "new"
    icmpv6 type echo-request counter accept comment "new"
    counter comment "dropped"
  }
}
"""
"""Connections begin at the ports of servers, or at another node's NodePorts. Answers, and errors about packets, pass by
their connections only."""


def nft(box: Box, node: str, *words: str, script: str = "") -> str:
    """Runs nft on a node; returns what it says."""
    namespace = box.paths.namespace(box.topology.node(node).name)
    command = ["ip", "netns", "exec", namespace, "nft", *words, *(["-f", "-"] if script else [])]
    return subprocess.run(command, input=script, capture_output=True, text=True, check=True).stdout


def set_up(box: Box, script: str = _STATEFUL) -> None:
    """Loads a ruleset on every node."""
    for node in box.topology.nodes:
        nft(box, node.name, script=script)


def counted(box: Box, node: str, table: str = "firewall") -> dict[str, int]:
    """Packets by the rules' comments."""
    found = dict.fromkeys(NAMES, 0)
    listed = json.loads(nft(box, node, "-j", "list", "table", "inet", table))
    for entry in listed["nftables"]:
        rule = entry.get("rule", {})
        packets = [e["counter"]["packets"] for e in rule.get("expr", ()) if "counter" in e]
        if packets and rule.get("comment"):
            found[rule["comment"]] = found.get(rule["comment"], 0) + sum(packets)
    return found


@contextmanager
def watched(
    box: Box, node: str, rules: Mapping[str, str]
) -> Iterator[Callable[[], dict[str, int]]]:
    """Counts what the stack forwards by some rules, in a table of its own, for the length of a block."""
    lines = [f'{rule} counter comment "{name}"' for name, rule in rules.items()]
    chain = "type filter hook forward priority filter + 10; " + "\n".join(["", *lines])
    nft(box, node, script=f"table inet watched {{ chain forward {{ {chain}\n }}\n}}\n")
    try:
        yield lambda: counted(box, node, "watched")
    finally:
        nft(box, node, "delete", "table", "inet", "watched")


def tracked(scene: Scene, node: str) -> list[str]:
    """The connections of pods that a node's netfilter tracks."""
    pods = {address for pod in scene.pods.values() for address in pod.addresses}
    words = {f"={ipaddress.ip_address(one).exploded}" for one in pods}
    shown = scene.run(node, "cat", "/proc/net/nf_conntrack").splitlines()
    return [line for line in shown if any(word in words for word in _values(line))]


def _values(line: str) -> list[str]:
    return [f"={word.partition('=')[2]}" for word in line.split() if word[:4] in ("src=", "dst=")]
