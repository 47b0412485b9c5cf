# SPDX-License-Identifier: Apache-2.0
"""k3s's ServiceLB: a pod on each node has the ports of a LoadBalancer as host ports, and the node's addresses are its.

The objects are as k3s 1.31 makes them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kubypass.kube.manifests.manifest_source import ManifestSource
from kubypass.kube.snapshot import Snapshot
from kubypass.model.address import parse_address
from kubypass.model.service import ServiceKey
from kubypass.model.verdict import ServiceFlag
from kubypass.plan.conflicts import Claims, Rank
from kubypass.plan.frontend_keys import format_key, frontend_key
from kubypass.plan.host_ports import plan_host_ports, pod_rank
from kubypass.plan.items import PlanNode, ServicePlan
from kubypass.plan.services import plan_service
from kubypass.settings.settings import Settings

NODES = ("192.0.2.1", "fd00::1")
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: traefik, namespace: kube-system, creationTimestamp: "2025-01-02T00:00:00Z"}
spec:
  type: LoadBalancer
  clusterIP: 10.43.0.7
  clusterIPs: [10.43.0.7, "fd43::7"]
  ipFamilies: [IPv4, IPv6]
  ports:
    - {name: web, port: 80, protocol: TCP, targetPort: web, nodePort: 31080}
    - {name: dns, port: 53, protocol: UDP, targetPort: dns, nodePort: 31053}
status: {loadBalancer: {ingress: [{ip: 192.0.2.1, ipMode: VIP}, {ip: "fd00::1", ipMode: VIP}]}}
"""
POD = """
---
apiVersion: v1
kind: Pod
metadata:
  name: svclb-traefik-2d1c8e7a-x7kzp
  namespace: kube-system
  creationTimestamp: "2025-01-02T00:00:09Z"
  labels:
    app: svclb-traefik-2d1c8e7a
    svccontroller.k3s.cattle.io/svcname: traefik
    svccontroller.k3s.cattle.io/svcnamespace: kube-system
spec:
  nodeName: node1
  containers:
    - {name: lb-tcp-80, ports: [{name: lb-tcp-80, containerPort: 80, hostPort: 80, protocol: TCP}]}
    - {name: lb-udp-53, ports: [{name: lb-udp-53, containerPort: 53, hostPort: 53, protocol: UDP}]}
status: {phase: Running, podIPs: [{ip: 10.42.0.5}, {ip: "fd42::5"}]}
"""
TRAEFIK: ServiceKey = ("kube-system", "traefik")
BALANCER: ServiceKey = ("kube-system", "pod/svclb-traefik-2d1c8e7a-x7kzp")
NODE = PlanNode("node1", local_addresses=frozenset(map(parse_address, NODES)))


def read(tmp_path: Path, text: str) -> Snapshot:
    (tmp_path / "objects.yaml").write_text(text)
    return ManifestSource(tmp_path).read()


def plans(snapshot: Snapshot) -> dict[ServiceKey, tuple[Rank, ServicePlan]]:
    found = {
        key: (Rank(service.created), plan_service(service, (), NODE, Settings()))
        for key, service in snapshot.services.items()
    }
    for key, pod in snapshot.pods.items():
        found[key] = (pod_rank(pod), plan_host_ports(pod, NODE, Settings()))
    return found


def settle(
    found: dict[ServiceKey, tuple[Rank, ServicePlan]], order: tuple[ServiceKey, ...]
) -> dict[ServiceKey, ServicePlan]:
    claims = Claims(NODE.local_addresses)
    for key in order:
        rank, plan = found[key]
        claims.replace(key, plan, rank)
        claims.commit()  # what comes next finds it running
    return {key: claims.settle(key, plan) for key, (_, plan) in found.items()}


def frontends(plan: ServicePlan, flag: ServiceFlag) -> set[str]:
    return {
        format_key(frontend_key(one)) for i in plan.items for one in i.frontends if one.flags & flag
    }


@pytest.mark.parametrize("order", [(TRAEFIK, BALANCER), (BALANCER, TRAEFIK)])
def test_the_service_is_served_and_nobody_has_a_problem(
    tmp_path: Path, order: tuple[ServiceKey, ...]
) -> None:
    settled = settle(plans(read(tmp_path, SERVICE + POD)), order)
    assert [plan.problems for plan in settled.values()] == [(), ()]
    served = frontends(settled[TRAEFIK], ServiceFlag.LOAD_BALANCER)
    assert served == {
        "192.0.2.1:80/TCP", "[fd00::1]:80/TCP", "192.0.2.1:53/UDP", "[fd00::1]:53/UDP",
    }  # fmt: skip
    assert frontends(settled[BALANCER], ServiceFlag.HOST_PORT) == {
        "node port 80/TCP", "node port 53/UDP",
    }  # fmt: skip


def test_a_host_ip_that_is_the_services_address(tmp_path: Path) -> None:
    pod = POD.replace("hostPort: 80", 'hostPort: 80, hostIP: "192.0.2.1"')
    settled = settle(plans(read(tmp_path, SERVICE + pod)), (TRAEFIK, BALANCER))
    assert [plan.problems for plan in settled.values()] == [(), ()]
    assert "192.0.2.1:80/TCP" in frontends(settled[TRAEFIK], ServiceFlag.LOAD_BALANCER)
    assert "192.0.2.1:80/TCP" not in frontends(settled[BALANCER], ServiceFlag.HOST_PORT)


@pytest.mark.parametrize(
    "other", [POD.replace("svcname: traefik", "svcname: another"), POD.replace("svc", "x")]
)
def test_any_other_pod_with_these_host_ports_has_a_problem(tmp_path: Path, other: str) -> None:
    found = plans(read(tmp_path, SERVICE + other))
    (pod,) = found.keys() - {TRAEFIK}
    settled = settle(found, (TRAEFIK, pod))
    assert len(settled[pod].problems) == 4
    assert all("service kube-system/traefik's" in found.message for found in settled[pod].problems)
