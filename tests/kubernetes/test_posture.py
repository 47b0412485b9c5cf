# SPDX-License-Identifier: Apache-2.0
"""The agent has three capabilities and a seccomp profile, is not privileged, and does all of its work all the same."""

from __future__ import annotations

import json

from kubypass_lab.box.kubernetes.cluster import Cluster
from kubypass_lab.box.kubernetes.kubectl import kubectl
from tests.waiting import wait

NET_ADMIN, SYS_PTRACE, SYS_ADMIN = 12, 19, 21
ASK = "print(*[line.strip() for line in open('/proc/self/status')], sep='|')"
SYSCTL = "print(open('/host/proc/sys/net/ipv4/ip_forward').read().strip())"
SWITCH_OFF = "open('/host/proc/sys/net/ipv4/ip_forward', 'w').write('0')"


def in_agent(cluster: Cluster, *words: str) -> str:
    words = ("exec", "ds/kubypass", "-c", "agent", "--", *words)
    return kubectl(cluster.paths, "-n", "kube-system", *words).strip()


def test_the_agent_is_not_privileged(two_nodes: Cluster) -> None:
    rows = dict(
        row.split(":", 1)
        for row in in_agent(two_nodes, "python3", "-c", ASK).split("|")
        if ":" in row
    )
    wanted = 1 << NET_ADMIN | 1 << SYS_PTRACE | 1 << SYS_ADMIN
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(rows[name], 16) == wanted, name
    assert rows["Seccomp"].strip() == "2", "a filter"


def test_it_has_no_problem_and_forwards(two_nodes: Cluster) -> None:
    def problems() -> list[str]:
        status = json.loads(in_agent(two_nodes, "kubypass", "status", "-o", "json"))
        assert status["agent"]["healthy"] or status["problems"]
        return [f"{one['subject']}: {one['message']}" for one in status["problems"]]

    wait(lambda: not problems(), "no problem")
    in_agent(two_nodes, "python3", "-c", SWITCH_OFF)
    wait(lambda: in_agent(two_nodes, "python3", "-c", SYSCTL) == "1", "forwarding again")
    wait(lambda: not problems(), "no problem")
