# SPDX-License-Identifier: Apache-2.0
"""Random and malformed packets go through every tc program and XDP; fuzz.c makes and checks a million in some seconds.

KUBYPASS_FUZZ is the number of packets and KUBYPASS_SEED chooses them. `make fuzz` runs five million.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubypass.datapath.config import pack_networks
from kubypass.kernel.bpf import Map
from kubypass.model.cidr import parse_cidr
from kubypass.model.verdict import Hook, LocalAddressKind, LocalDetector, ServiceFlag, Verdict
from tests.packet.dsr import peers
from tests.packet.lab import NUMBERS, Lab, config
from tests.packet.packets import V4, V6
from tests.packet.uplink import POD_DEVICES, namespace, remember_uplink, uplink_index

ROOT = Path(__file__).resolve().parents[2]
PACKETS = int(os.environ.get("KUBYPASS_FUZZ", "200000"))
SEED = int(os.environ.get("KUBYPASS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
PROGRAMS = {
    "from_pod": Hook.FROM_POD,
    "to_pod": Hook.TO_POD,
    "from_uplink": Hook.FROM_UPLINK,
    "to_uplink": Hook.TO_UPLINK,
    "to_self": Hook.TO_SELF,
    "xdp_uplink": Hook.XDP,
}
EXTERNAL = {4: "198.51.100.1", 6: "2001:db8:e::1"}
BALANCER = {4: "198.51.100.2", 6: "2001:db8:e::2"}
DIRECT = {4: "198.51.100.3", 6: "2001:db8:e::3"}
"""The load balancer's address of a service in DSR mode."""
MUST_BE_MET = {
    Verdict.PASS,
    Verdict.TO_POD,
    Verdict.TO_NETWORK,
    Verdict.FOREIGN,
    Verdict.DROP_MALFORMED,
    Verdict.DROP_EXTERNAL_CLUSTER_IP,
    Verdict.ANSWER_TTL_EXPIRED,
    Verdict.DROP_NO_LOCAL_BACKEND,
    Verdict.DROP_SOURCE_RANGE,
    Verdict.DROP_NO_SERVICE,
    Verdict.DROP_LOOP,
    Verdict.DROP_FOREIGN_SOURCE,
    Verdict.REJECT_NO_BACKEND,
    Verdict.REJECT_NO_SERVICE,
    Verdict.DSR,
    Verdict.DROP_DSR,
}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")


@pytest.fixture(scope="module")
def labs() -> Iterator[list[Lab]]:
    """Loads programs twice over one set of maps: with default constants, and with every switch the other way."""
    with namespace() as path:
        remember_uplink(path)
        maps: dict[str, Map] = {}
        networks = pack_networks([parse_cidr("10.233.0.0/16"), parse_cidr("fd00:10:233::/64")])
        other = config(
            local_detector=LocalDetector.NETWORK,
            masquerade_all=1,
            external_cluster_ip=1,
            reject=1,
            pod_networks=networks,
            pod_network_count=2,
            service_networks=networks,
            service_network_count=2,
            tracing=1,
            verify_sources=0,
            dsr=1,
        )
        made = []
        for constants in (config(), other):
            lab = Lab(path, maps=maps)
            lab.load(constants)
            made.append(lab)
        yield made


def fill(lab: Lab) -> list[str]:
    """Writes services of every kind; returns the addresses that packets should come from and go to."""
    lab.reset()
    peers(lab)
    addresses: list[str] = []
    for who in (V4, V6):
        external, balancer = EXTERNAL[who.version], BALANCER[who.version]
        direct = DIRECT[who.version]
        lab.local_address(who.node, LocalAddressKind.NODE_PORTS)
        local = ServiceFlag.EXTERNAL_IP | ServiceFlag.LOCAL
        ranged = ServiceFlag.LOAD_BALANCER | ServiceFlag.SOURCE_RANGES
        for protocol in NUMBERS:
            every = [who.pod, who.second_pod, who.remote_pod, who.node]
            lab.service(who.service, 80, every, protocol=protocol, affinity_s=100)
            lab.service(who.service, 443, [], protocol=protocol)
            lab.service(who.node, 30080, every, protocol=protocol, flags=ServiceFlag.NODE_PORT)
            lab.service(external, 80, [who.remote_pod], protocol=protocol, flags=local)
            lab.service(balancer, 80, [who.pod], protocol=protocol, flags=ranged)
            lab.source_range(
                balancer, 80, f"{who.remote_pod}/{32 if who.version == 4 else 128}", protocol
            )
            if protocol != "SCTP":
                for address, port, kind in (
                    (direct, 80, ServiceFlag.LOAD_BALANCER),
                    (who.node, 30081, ServiceFlag.NODE_PORT),
                ):
                    flags = kind | ServiceFlag.DSR
                    backends = [who.remote_pod, who.pod]
                    lab.service(address, port, backends, protocol=protocol, flags=flags)
        addresses += [who.node, who.other_node, who.client, who.service, who.service, who.pod]
        addresses += [who.second_pod, who.remote_pod, external, balancer, *[direct] * 4]
    return [*addresses, "10.233.77.7", "224.0.0.1", "fd00:10:233::777", "ff02::1", "fe80::1", "::1"]


def fuzz(labs: list[Lab], seed: int, packets: int) -> subprocess.CompletedProcess[str]:
    """Runs fuzz.c in the lab's namespace with the programs of all labs."""
    addresses = fill(labs[0])
    metrics = labs[0].maps["metrics"].fd
    programs = [(lab.programs[name].fd, hook) for lab in labs for name, hook in PROGRAMS.items()]
    return subprocess.run(
        ["nsenter", f"--net={labs[0].path}", ROOT / "build/tests/fuzz", str(seed), str(packets), str(metrics),
         f"{uplink_index()}:{POD_DEVICES[0]}", *(f"{fd}:{int(hook)}" for fd, hook in programs)],
        input="\n".join(addresses), text=True, capture_output=True, check=False,
        pass_fds=[metrics, *(fd for fd, _ in programs)],
    )  # fmt: skip


def test_no_packet_is_mistreated(labs: list[Lab]) -> None:
    print(f"KUBYPASS_SEED={SEED}")
    result = fuzz(labs, SEED, PACKETS)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [[int(word) for word in line.split()] for line in result.stdout.splitlines()]
    for hook, verdict, count in rows:
        print(f"{count:9} {Hook(hook).name} {Verdict(verdict).name}")
    met = {Verdict(verdict) for _, verdict, _ in rows}
    assert met >= MUST_BE_MET, f"not met: {MUST_BE_MET - met}"
    assert Hook.XDP in {hook for hook, _, _ in rows}, "XDP handles some"
