# SPDX-License-Identifier: Apache-2.0
"""Random small clusters and packets: the programs against the reference. KUBYPASS_CASES sets how many, KUBYPASS_SEED
which; a failure prints its seed."""

from __future__ import annotations

import os
import random

from lab import V4, V6, segment
from reference import Cluster, Outcome, judge
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from kubypass.model.verdict import EndpointKind, ServiceFlag, Verdict

CASES = int(os.environ.get("KUBYPASS_CASES", "60"))
SEED = int(os.environ.get("KUBYPASS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
PACKETS = 12
KINDS = {
    Verdict.PASS: "pass",
    Verdict.TO_POD: "pod",
    Verdict.TO_NETWORK: "network",
    Verdict.DROP_NO_BACKEND: "no_backend",
    Verdict.DROP_EXTERNAL_CLUSTER_IP: "external_cluster_ip",
}


def build(dice, lab, who) -> tuple[Cluster, list[str]]:
    """A cluster, in the maps and for the reference, and addresses worth sending packets to."""
    prefix = "10.233." if who.version == 4 else "fd00:10:233:"
    separator = "." if who.version == 4 else "::"
    local = {who.pod, who.second_pod}
    remote = {f"{prefix}65{separator}{n}" for n in range(20, 24)}
    cluster = Cluster({who.node}, local)
    backends = sorted(local | remote | {who.node})
    for number in range(dice.randrange(1, 5)):
        protocol = dice.choice(["TCP", "UDP"])
        chosen = dice.sample(backends, dice.randrange(4))
        port = dice.choice([80, 443])
        if dice.random() < 0.5:
            address = f"{prefix}30{separator}{40 + number}"
            lab.service(address, port, chosen, protocol=protocol)
            cluster.cluster_ips[address, port, protocol] = chosen
        else:
            node_port = 30000 + number
            lab.service(who.node, node_port, chosen, protocol=protocol, flags=ServiceFlag.NODE_PORT)
            cluster.node_ports[node_port, protocol] = chosen
    lab.endpoint(who.node, EndpointKind.NODE)
    places = sorted(local | remote | {who.node, who.other_node, who.client})
    return cluster, places + [key[0] for key in cluster.cluster_ips]


def observe(result) -> Outcome:
    """What the program did, in the words of the reference."""
    ((_, verdict),) = result.counted
    kind = KINDS.get(verdict, verdict.name)
    if verdict > Verdict.DROP:
        return Outcome(kind)
    parsed = (IP if result.packet[12:14] == b"\x08\x00" else IPv6)(result.packet[14:])
    return Outcome(kind, frozenset({parsed.dst}), parsed.src)


def check_checksums(packet: bytes) -> None:
    """All checksums are those that would be computed for the packet as it is."""
    kind = IP if packet[12:14] == b"\x08\x00" else IPv6
    parsed = kind(packet[14:])
    again = parsed.copy()
    if kind is IP:
        del again.chksum
    del again[TCP if TCP in again else UDP].chksum
    assert bytes(kind(bytes(again))) == bytes(parsed)


def test_programs_agree_with_the_reference(lab):
    print(f"KUBYPASS_SEED={SEED}")
    for case in range(CASES):
        dice = random.Random(f"{SEED}/{case}")
        who = dice.choice([V4, V6])
        lab.reset()
        cluster, places = build(dice, lab, who)
        ports = [80, 443, 8080, *(port for port, _ in cluster.node_ports)]
        for number in range(PACKETS):
            hook = dice.choice(["from_pod", "from_uplink"])
            source = who.pod if hook == "from_pod" else dice.choice([who.client, who.remote_pod])
            target = (dice.choice(places), dice.choice(ports), dice.choice(["TCP", "UDP"]))
            flow = (source, 40000 + number, target[0], target[1])
            result = lab.run(hook, segment(who, flow, protocol=target[2]))
            seen, allowed = observe(result), judge(cluster, hook, source, target)
            where = f"KUBYPASS_SEED={SEED} case {case}: {hook} {flow} {target[2]} in {cluster}"
            assert seen in allowed, f"{where}: {seen} is none of {allowed}"
            if not seen.kind.endswith(("backend", "cluster_ip")):
                check_checksums(result.packet)
