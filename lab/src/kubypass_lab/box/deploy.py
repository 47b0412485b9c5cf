# SPDX-License-Identifier: Apache-2.0
"""Makes the pods that the applied objects ask for, and publishes them to the agents.

The order keeps traffic flowing: new pods answer before old ones are removed. A pod that is removed first leaves the
agents' active backends, then finishes its connections, and then ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import msgspec

from kubypass_lab.box import converge, placement, pods, vips
from kubypass_lab.box.box import Box
from kubypass_lab.box.files import Json, mapping, read_all, write_json
from kubypass_lab.box.labels import read_zones
from kubypass_lab.box.objects import Service
from kubypass_lab.box.patience import DEADLINE_S
from kubypass_lab.box.placement import Wanted
from kubypass_lab.box.pod_objects import describe_pod
from kubypass_lab.box.process import is_alive
from kubypass_lab.box.record import PodRecord, read_pods, write_pod
from kubypass_lab.box.slices import plan_slices

_LATE = f"warning: after {DEADLINE_S:.0f} s the agents do not use all ready pods yet"


def reconcile(box: Box, say: Callable[[str], None]) -> list[str]:
    """Start missing pods and end surplus ones. Returns a line for each pod that failed."""
    wanted = placement.read_wanted(box)
    old = read_pods(box.paths)
    missing: list[Wanted] = []
    replaced: list[
        PodRecord
    ] = []  # they are removed first, because their successors have the same names
    surplus = [pod for pod in old if pod.owner not in wanted]
    for want in wanted.values():
        mine = [pod for pod in old if pod.owner == want.key]
        current = [pod for pod in mine if pod.template == want.template and _is_running(pod)]
        outdated = [pod for pod in mine if pod not in current]
        (replaced if want.fixed_name else surplus).extend(outdated)
        surplus += placement.choose_surplus(current, len(current) - want.replicas)
        missing += [want] * (want.replicas - len(current))
    _remove(box, replaced)
    failures = _start(box, missing)
    publish(box)
    if not converge.wait_until_active(box):
        say(_LATE)
    _remove(box, surplus)
    return failures


def publish(box: Box) -> None:
    """Write what agents see of the pods: EndpointSlices of Services with a selector, and Pods with host ports.

    Objects that no longer apply are removed.
    """
    records = read_pods(box.paths)
    manifests = read_all(box.paths.manifests)
    services = [msgspec.convert(raw, Service) for raw in manifests if raw.get("kind") == "Service"]
    vips.sync_routes(box, services)
    zones = read_zones(manifests)
    wanted: dict[str, Json] = {}
    for service in services:
        for each in plan_slices(service, records, zones):
            metadata = mapping(each["metadata"])
            wanted[f"endpoints_{metadata['namespace']}_{metadata['name']}.json"] = each
    for pod in records:
        if any(port.host_port for port in pod.ports):
            wanted[f"pod_{pod.namespace}_{pod.name}.json"] = describe_pod(pod)
    for name, each in wanted.items():
        write_json(box.paths.manifests / name, each)
    for pattern in ("endpoints_*.json", "pod_*.json"):
        for path in box.paths.manifests.glob(pattern):
            if path.name not in wanted:
                path.unlink()


def _is_running(pod: PodRecord) -> bool:
    return pod.state == "ready" and all(map(is_alive, pod.processes))


def _start(box: Box, wanted: Iterable[Wanted]) -> list[str]:
    """Start one pod for each entry, then wait for all of them."""
    started = []
    for want in wanted:
        ports = placement.unnamed_ports(box, want)
        started.append((pods.start_pod(box, placement.place(box, want), ports), ports))
    ready = [pods.wait_ready(box, pod, ports) for pod, ports in started]
    return [pods.why_failed(box, pod) for pod in ready if pod.state == "failed"]


def _remove(box: Box, surplus: list[PodRecord]) -> None:
    """End pods without failing a request: stop new connections, drain, end the processes, remove the pods."""
    if not surplus:
        return
    for pod in surplus:
        write_pod(box.paths, replace(pod, state="terminating"))
    publish(box)
    converge.wait_until_unused(box, surplus)
    for pod in surplus:
        pods.drain_pod(pod)
    for pod in surplus:
        pods.end_processes(box, pod)
        pods.remove_pod(box, pod)
    publish(box)
