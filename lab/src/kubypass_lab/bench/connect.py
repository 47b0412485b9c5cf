# SPDX-License-Identifier: Apache-2.0
"""Measures what a service costs a connection: a pod connects to a ClusterIP and to the backend's address, in turn.

The client (paired.c) sends one request each round to the backend's address (direct), to the same address again (the
control, which shows what the method can resolve) and to the service. Ratios are p50(direct) / p50(target): 1.0 is no
cost.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from kubypass.errors import KubypassError
from kubypass_lab.bench.cluster import (
    Object,
    named_service,
    named_slice,
    numbered_slice,
    service,
    write_list,
)
from kubypass_lab.box.patience import DEADLINE_S
from kubypass_lab.checkout import BUILD

_BOX = "bench"
_MANIFESTS = Path("/run/kubypass/box") / _BOX / "manifests"
_KUBYPASS = str(Path(sys.executable).parent / "kubypass")
_PAIRED = BUILD / "bench/paired"
WORKLOADS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: nginx, image: nginx, ports: [{containerPort: 80}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client}
spec:
  replicas: 1
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}}
    spec: {containers: [{name: echo, image: echo, ports: [{containerPort: 8080}]}]}
"""


def _box(*words: str) -> str:
    done = subprocess.run(
        [_KUBYPASS, "box", words[0], "--name", _BOX, *words[1:]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise KubypassError(f"box {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _pods() -> dict[str, tuple[str, str]]:
    """Maps each pod's name to its node and address."""
    rows = [line.split() for line in _box("list").splitlines() if " pod/" in line]
    return {row[1].removeprefix("pod/"): (row[2], row[3]) for row in rows}


def _services(pods: dict[str, tuple[str, str]], count: int) -> dict[str, str]:
    """Write the manifests. Returns the pod's address for each service address, the local one first."""
    (node,) = (node for name, (node, _) in pods.items() if name.startswith("client"))
    targets, items = {}, []
    for name, (where, address) in pods.items():
        if name.startswith("web"):
            kind = "local" if where == node else "remote"
            cluster_ip = "10.233.1.1" if kind == "local" else "10.233.1.2"
            items += [named_service(kind, cluster_ip), named_slice(kind, [address], 80)]
            targets[kind] = address
    write_list(_MANIFESTS / "bench.json", items)
    dummies: list[Object] = []
    for number in range(count - 1):
        dummies += [service(number), numbered_slice(number, 10)]
    write_list(_MANIFESTS / "dummies.json", dummies)
    _wait_for(count + 1)
    return targets


def _wait_for(services: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while (
        json.loads(_box("exec", "node1", "--", "kubypass", "status", "-o", "json"))["services"]
        != services
    ):
        if time.monotonic() > deadline:
            raise KubypassError(f"the agent did not take in {services} services")
        time.sleep(0.1)


def _paired(
    client: str, address: str, cluster_ip: str, rounds: int, *, keepalive: bool
) -> dict[str, object]:
    targets = [f"direct={address}:80", f"control={address}:80", f"service={cluster_ip}:80"]
    mode = ["--keepalive"] if keepalive else []
    command = ["taskset", "-c", "0", str(_PAIRED), *mode, "--rounds", str(rounds), *targets]
    found: dict[str, object] = json.loads(_box("exec", f"pod/{client}", "--", *command))
    return found


def measure(sizes: list[int], rounds: int) -> dict[str, object]:
    """All runs: by number of services, location of the backend and kind of connection."""
    if not _PAIRED.exists():
        raise KubypassError(f"{_PAIRED} is missing", "run make build")
    runs = []
    try:
        _box("up")
        workloads = _MANIFESTS.parent / "workloads.yaml"
        workloads.write_text(WORKLOADS)
        _box("apply", "-f", str(workloads))
        pods = _pods()
        client = next(name for name in pods if name.startswith("client"))
        # a run makes 15,000 connections to one address and port, each of which stays in TIME_WAIT for a minute
        ports = "net.ipv4.ip_local_port_range=1024 65535"
        _box("exec", f"pod/{client}", "--", "sysctl", "-qw", ports)
        for size in sizes:
            targets = _services(pods, size)
            for kind, address in sorted(targets.items()):
                cluster_ip = "10.233.1.1" if kind == "local" else "10.233.1.2"
                for keepalive in (False, True):
                    count = rounds * 4 if keepalive else rounds
                    result = _paired(client, address, cluster_ip, count, keepalive=keepalive)
                    mode = "keep-alive" if keepalive else "new"
                    runs.append(
                        {"services": size, "backend": kind, "connections": mode, "targets": result}
                    )
    finally:
        _box("down")
    return {"rounds": rounds, "runs": runs}
