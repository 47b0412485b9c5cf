# SPDX-License-Identifier: Apache-2.0
"""What the datapath should do with the first packet of a connection, said once more in plain Python.

Written from the description of the behaviour, for comparison with the programs on random clusters and packets; shares
no code with `kubypass.plan`.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Cluster:
    """Text addresses throughout. Services and node ports: (address or "node", port, protocol) -> backends."""

    node: set[str]
    local_pods: set[str]
    cluster_ips: dict[tuple[str, int, str], list[str]] = field(default_factory=dict)
    node_ports: dict[tuple[int, str], list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """Where the packet may end up. `sources` are the addresses it may come from then."""

    kind: str
    """pass, pod, network or the name of a drop."""
    destinations: frozenset[str] = frozenset()
    source: str = ""


def judge(cluster: Cluster, hook: str, source: str, target: tuple[str, int, str]) -> list[Outcome]:
    """Every outcome that is right, for a packet with enough hops left."""
    address, port, protocol = target
    if address in cluster.local_pods:
        return [Outcome("pod", frozenset({address}), source)]
    backends = cluster.cluster_ips.get(target)
    if backends is not None and hook == "from_uplink":
        return [Outcome("external_cluster_ip")]
    if backends is None and address in cluster.node:
        backends = cluster.node_ports.get((port, protocol))
        if backends is None:
            return [Outcome("pass", frozenset({address}), source)]
    if backends is None:
        kind = "network" if hook == "from_pod" else "pass"
        return [Outcome(kind, frozenset({address}), source)]
    if not backends:
        return [Outcome("no_backend")]
    return [_to_backend(cluster, hook, source, backend) for backend in backends]


def _to_backend(cluster: Cluster, hook: str, source: str, backend: str) -> Outcome:
    node = next(iter(sorted(cluster.node)))
    if backend in cluster.node:
        return Outcome("pass", frozenset({backend}), source)
    if backend in cluster.local_pods:
        hairpin = hook == "from_pod" and backend == source
        return Outcome("pod", frozenset({backend}), node if hairpin else source)
    return Outcome("network", frozenset({backend}), node if hook == "from_uplink" else source)
