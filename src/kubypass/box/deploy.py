# SPDX-License-Identifier: Apache-2.0
"""Makes a box's pods what its Deployments and Pods ask for, and its EndpointSlices what its pods are.

Order matters for traffic: new pods answer before anything old goes; a pod that goes first leaves the agents' active
backends, then finishes its connections, and only then ends.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from kubypass.box import agents, pods, wiring
from kubypass.box.addressing import next_pod_address
from kubypass.box.box import Box
from kubypass.box.files import Json, read_all, read_json, write_json
from kubypass.box.kubekey import IPAddress
from kubypass.box.objects import Applied, Container, ContainerPort, Deployment, Pod, parse_object, selects
from kubypass.box.process import is_alive, wait_until
from kubypass.box.record import PodRecord, read_pods, write_pod
from kubypass.box.slices import plan_slices
from kubypass.errors import KubypassError

CONVERGE_S = 10.0
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # as Kubernetes' names: no vowels, no words


@dataclass(frozen=True, slots=True)
class Wanted:
    """Pods that one applied object asks for."""

    key: str
    namespace: str
    name: str  # of the pod itself, or what the pods' names begin with
    template: str
    replicas: int
    labels: dict[str, str]
    containers: tuple[Container, ...]
    fixed_name: bool  # a Pod, not a Deployment


def reconcile(box: Box, say: Callable[[str], None]) -> list[str]:
    """Start what is missing, end what is too much; returns one line for each pod that does not answer."""
    wanted = _read_wanted(box)
    old, surplus = read_pods(box.paths), []
    started, going = [], []
    for want in wanted.values():
        mine = [pod for pod in old if pod.owner == want.key]
        current = [pod for pod in mine if pod.template == want.template and _is_running(pod)]
        extra = _choose_surplus(current, len(current) - want.replicas)
        going += [pod for pod in mine if pod not in current] if want.fixed_name else []
        surplus += [pod for pod in mine if pod not in current or pod in extra]
        started += [want] * (want.replicas - len(current))
    surplus += [pod for pod in old if pod.owner not in wanted]
    _remove(box, going)
    failures = _start(box, started)
    write_slices(box)
    _wait_for_agents(box, say)
    _remove(box, [pod for pod in surplus if pod not in going])
    return failures


def write_slices(box: Box) -> None:
    """Write the EndpointSlices of all Services with a selector; remove those that are no more."""
    records = read_pods(box.paths)
    services = [raw for raw in read_all(box.paths.manifests) if raw.get("kind") == "Service"]
    wanted: dict[str, Json] = {}
    for service in services:
        for each in plan_slices(service, records):
            metadata = each["metadata"]
            assert isinstance(metadata, dict)
            wanted[f"endpoints_{metadata['namespace']}_{metadata['name']}.json"] = each
    for name, each in wanted.items():
        write_json(box.paths.manifests / name, each)
    for path in box.paths.manifests.glob("endpoints_*.json"):
        if path.name not in wanted:
            path.unlink()


def _read_wanted(box: Box) -> dict[str, Wanted]:
    result = {}
    for raw in read_all(box.paths.objects):
        applied = parse_object(raw, "stored object")
        if applied is not None and isinstance(applied.object, Deployment | Pod):
            want = _wanted(applied)
            result[want.key] = want
    return result


def _wanted(applied: Applied) -> Wanted:
    each = applied.object
    assert isinstance(each, Deployment | Pod)
    metadata = each.metadata
    if isinstance(each, Pod):
        labels, containers, replicas, source = metadata.labels or {}, each.spec.containers, 1, applied.raw
    else:
        template = each.spec.template
        labels, containers, replicas = template.metadata.labels or {}, template.spec.containers, each.spec.replicas
        spec = applied.raw["spec"]
        source = spec["template"] if isinstance(spec, dict) else {}
    digest = hashlib.sha256(json.dumps(source, sort_keys=True, default=str).encode()).digest()
    template_hash = "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:5])
    fixed = isinstance(each, Pod)
    return Wanted(
        applied.key, metadata.namespace, metadata.name, template_hash, replicas, labels, containers, fixed_name=fixed
    )


def _is_running(pod: PodRecord) -> bool:
    return pod.state == "ready" and all(map(is_alive, pod.processes))


def _choose_surplus(current: list[PodRecord], count: int) -> list[PodRecord]:
    """The pods to end: from the node that has most of them, the newest first."""
    chosen: list[PodRecord] = []
    remaining = list(current)
    for _ in range(max(count, 0)):
        load = Counter(pod.node for pod in remaining)
        victim = max(remaining, key=lambda pod: (pod.state != "ready", load[pod.node], pod.created))
        remaining.remove(victim)
        chosen.append(victim)
    return chosen


def _start(box: Box, wanted: Iterable[Wanted]) -> list[str]:
    """Start one pod for each entry, then wait for all of them."""
    started = []
    for want in wanted:
        ports = _service_ports(box, want)
        started.append((pods.start_pod(box, _place(box, want), ports), ports))
    ready = [pods.wait_ready(box, pod, ports) for pod, ports in started]
    return [pods.why_failed(box, pod) for pod in ready if pod.state == "failed"]


def _place(box: Box, want: Wanted) -> PodRecord:
    """Choose a name, a node and addresses: the node with the fewest pods of this object, then of all."""
    records = read_pods(box.paths)
    mine = Counter(pod.node for pod in records if pod.owner == want.key)
    load = Counter(pod.node for pod in records)
    node = min(box.nodes, key=lambda each: (mine[each.name], load[each.name]))
    suffix = "".join(secrets.choice(_LETTERS) for _ in range(5))
    name = want.name if want.fixed_name else f"{want.name}-{want.template}-{suffix}"
    taken = {address for pod in records for address in pod.ip_addresses()}
    last = _last_addresses(box, node.name)
    addresses = [next_pod_address(cidr, taken, last.get(cidr.version)) for cidr in node.pod_cidrs]
    write_json(box.paths.root / "addresses" / f"{node.name}.json", {str(a.version): str(a) for a in addresses})
    uid = secrets.token_hex(16)
    return PodRecord(
        namespace=want.namespace,
        name=name,
        uid=f"{uid[:8]}-{uid[8:12]}-{uid[12:16]}-{uid[16:20]}-{uid[20:]}",
        node=node.name,
        owner=want.key,
        template=want.template,
        created=time.time(),
        labels=want.labels,
        containers=want.containers,
        addresses=tuple(map(str, addresses)),
        interface=wiring.pod_interface(f"{want.namespace}/{name}/{uid}"),
    )


def _last_addresses(box: Box, node: str) -> dict[int, IPAddress]:
    """The addresses given out last on a node, by IP version."""
    stored = read_json(box.paths.root / "addresses" / f"{node}.json") or {}
    return {int(version): ipaddress.ip_address(str(text)) for version, text in stored.items()}


def _service_ports(box: Box, want: Wanted) -> tuple[ContainerPort, ...]:
    """Numeric targetPorts of Services that select the pod and that no container names: images know them, we do not."""
    named = {(port.container_port, port.protocol) for container in want.containers for port in container.ports or ()}
    result: dict[tuple[int, str], ContainerPort] = {}
    for service in read_all(box.paths.manifests):
        metadata, spec = service.get("metadata"), service.get("spec")
        if service.get("kind") != "Service" or not isinstance(metadata, dict) or not isinstance(spec, dict):
            continue
        if metadata.get("namespace", "default") != want.namespace or not selects(spec.get("selector"), want.labels):
            continue
        for port in spec.get("ports") or ():
            target = (port.get("targetPort", port["port"]), port.get("protocol", "TCP"))
            if isinstance(target[0], int) and target not in named:
                result[target] = ContainerPort(target[0], protocol=target[1])
    return tuple(result.values())


def _remove(box: Box, surplus: list[PodRecord]) -> None:
    """End pods without a failed request: out of the agents' active backends, drained, ended, forgotten."""
    if not surplus:
        return
    for pod in surplus:
        write_pod(box.paths, replace(pod, state="terminating"))
    write_slices(box)
    gone = {backend for pod in surplus for backend in _backends_with_others(box, pod)}
    _wait(box, lambda active: not active & gone)
    for pod in surplus:
        pods.drain_pod(pod)
    for pod in surplus:
        pods.end_processes(box, pod)
        pods.remove_pod(box, pod)
    write_slices(box)


def _backends_with_others(box: Box, pod: PodRecord) -> set[str]:
    """Backends of `pod` that a ready pod can replace: others stay active, since nothing else could answer."""
    found = set()
    for each in _slices(box):
        endpoints = each["endpoints"]
        if any(endpoint["conditions"]["ready"] for endpoint in endpoints):
            mine = [e["addresses"][0] for e in endpoints if e["addresses"][0] in pod.addresses]
            found |= {_backend(address, port) for address in mine for port in each["ports"]}
    return found


def _wait_for_agents(box: Box, say: Callable[[str], None]) -> None:
    """Wait until every agent that runs sends connections to every ready pod of a Service with a ClusterIP."""
    ready = {
        _backend(endpoint["addresses"][0], port)
        for each in _slices(box)
        for endpoint in each["endpoints"]
        if endpoint["conditions"]["ready"]
        for port in each["ports"]
    }
    if not _wait(box, lambda active: ready <= active):
        say(f"warning: the agents have not taken up all backends after {CONVERGE_S:.0f} s; see `kubypass status`")


def _wait(box: Box, condition: Callable[[set[str]], bool]) -> bool:
    running = [node.name for node in box.nodes if agents.is_running(box.paths, node.name)]

    def converged() -> bool:
        try:
            return all(condition(agents.active_backends(box.paths, node)) for node in running)
        except (OSError, KubypassError):
            return False

    return wait_until(converged, CONVERGE_S)


def _slices(box: Box) -> list[dict[str, list[dict[str, dict[str, bool]]]]]:
    """Slices of Services that agents serve: those with a ClusterIP."""
    everything = read_all(box.paths.manifests)
    served = set()
    for raw in everything:
        metadata, spec = raw.get("metadata"), raw.get("spec")
        if raw.get("kind") == "Service" and isinstance(metadata, dict) and isinstance(spec, dict):
            if spec.get("clusterIP") not in (None, "None"):
                served.add((metadata.get("namespace", "default"), metadata["name"]))
    return [raw for raw in read_all(box.paths.manifests) if _service_of(raw) in served]  # type: ignore[misc]


def _service_of(raw: Json) -> tuple[object, object] | None:
    metadata = raw.get("metadata")
    if raw.get("kind") != "EndpointSlice" or not isinstance(metadata, dict):
        return None
    return metadata.get("namespace", "default"), (metadata.get("labels") or {}).get("kubernetes.io/service-name")


def _backend(address: str, port: dict[str, object]) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{port['port']}/{port['protocol']}"
