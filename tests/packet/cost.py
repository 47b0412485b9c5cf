# SPDX-License-Identifier: Apache-2.0
"""ns per packet of each path, by test run: `python tests/packet/cost.py`. Compare within one run only.

A run changes its packet, so a repeated one is not the same again: each figure is the median of many single runs, each
with the cost of a single start in it. The first row, a packet that is no business of ours, shows that cost.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from lab import V4, V6, Lab, config, namespace, remember_uplink, segment
from scapy.layers.l2 import ARP, Ether

from kubypass.model.verdict import ServiceFlag

RUNS = 3000


def cost(lab: Lab, program: str, packet) -> float:
    """Median ns of one packet."""
    return statistics.median(lab.run(program, packet).duration_ns for _ in range(RUNS))


def main() -> None:
    """Prints a table."""
    with namespace() as path:
        remember_uplink(path)
        lab = Lab(path)
        lab.load(config())
        for who in (V4, V6):
            lab.service(who.service, 80, [who.second_pod])
            lab.service(who.node, 30080, [who.remote_pod], flags=ServiceFlag.NODE_PORT)
            rows = {
                "not IP": ("from_pod", Ether() / ARP()),
                "pod to pod, same node": ("from_pod", segment(who, (who.second_pod, 4, who.pod, 80), flags="A")),
                "pod to pod, other node": ("from_pod", segment(who, (who.pod, 4, who.remote_pod, 80), flags="A")),
                "to ClusterIP, first packet": ("from_pod", segment(who, (who.pod, 4, who.service, 80))),
                "to ClusterIP, established": ("from_pod", segment(who, (who.pod, 4, who.service, 80), flags="A")),
                "to NodePort, SNAT, established": (
                    "from_uplink", segment(who, (who.client, 4, who.node, 30080), flags="A"),
                ),
            }  # fmt: skip
            for name, (program, packet) in rows.items():
                print(f"IPv{who.version}  {name:<32} {cost(lab, program, packet):6.0f} ns")


if __name__ == "__main__":
    main()
