# SPDX-License-Identifier: Apache-2.0
"""Puts the objects of a test into a cluster, waits for them, and removes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from kubypass.connectivity.objects import LABEL, NAMESPACE, SERVICE_PORT, Deployment, objects
from kubypass.connectivity.paths import NodePods, ServiceAddresses
from kubypass.errors import ConfigError, KubypassError
from kubypass.kube.client.rest import Object, Rest

Say = Callable[[str], None]
_AGENTS = "/apis/apps/v1/namespaces/kube-system/daemonsets/kubypass"
_SPACE = f"/api/v1/namespaces/{NAMESPACE}"
_POLL_S = 0.2
_PLACES = 2
_NODES_S = 30.0
_NO_IMAGE = {"ErrImagePull", "ImagePullBackOff"}
"""States between which the kubelet alternates while it retries."""
_GONE_S = 120.0


def choose_nodes(rest: Rest, wanted: Sequence[str]) -> tuple[str, ...]:
    """The nodes of the test: the requested ones, or the first two that are ready. ConfigError: there is none.

    A node whose pod network is new may take some seconds to become ready.
    """
    deadline = time.monotonic() + _NODES_S
    while True:
        nodes = {node["metadata"]["name"]: node for node in rest.list("/api/v1/nodes")}
        for name in wanted:
            if name not in nodes:
                known = ", ".join(nodes) or "none"
                raise ConfigError(f"--node {name}: there is no such node", f"there are: {known}")
        ready = [name for name, node in nodes.items() if _is_ready(node)]
        chosen = tuple(wanted or ready)[:_PLACES]
        if len(chosen) == min(_PLACES, len(wanted or nodes)) or time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    if not chosen:
        raise ConfigError("no node is ready", "kubectl get nodes")
    return chosen


def _is_ready(item: Object) -> bool:
    conditions = item["status"].get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def agents_image(rest: Rest) -> str | None:
    """The image of this cluster's agents, which nodes already have."""
    found = rest.get(_AGENTS)
    image: str | None = (
        found["spec"]["template"]["spec"]["containers"][0]["image"] if found else None
    )
    return image


@contextmanager
def deployed(
    rest: Rest, deployment: Deployment, wait_s: float, *, keep: bool, say: Say
) -> Iterator[None]:
    """Deploy the test's pods for the length of a block, which begins when they are ready."""
    _remove_left(rest, say)
    try:
        for item in objects(deployment):
            rest.apply(item)
        _wait_pods(rest, wait_s, say)
        yield
    finally:
        if keep:
            say(f"kept: kubectl -n {NAMESPACE} get all; kubectl delete namespace {NAMESPACE}")
        else:
            rest.delete(_SPACE)


def _remove_left(rest: Rest, say: Say) -> None:
    """Remove what an earlier test left. A namespace that the test did not make is not touched."""
    found = rest.get(_SPACE)
    if found is None:
        return
    if LABEL not in (found["metadata"].get("labels") or {}):
        raise ConfigError(
            f"namespace {NAMESPACE} is not of this test",
            f"it has no label {LABEL}; rename or delete it",
        )
    say("an earlier test's namespace goes first")
    rest.delete(_SPACE)
    deadline = time.monotonic() + _GONE_S
    while rest.get(_SPACE) is not None:
        if time.monotonic() > deadline:
            raise KubypassError(
                f"namespace {NAMESPACE} does not go", "kubectl get namespace says why"
            )
        time.sleep(_POLL_S)


def _wait_pods(rest: Rest, wait_s: float, say: Say) -> None:
    deadline, said = time.monotonic() + wait_s, ""
    while True:
        pods = rest.list(f"{_SPACE}/pods")
        waiting = [pod for pod in pods if not _is_ready(pod)]
        if not waiting:
            return
        line = f"waiting for {', '.join(_state(pod) for pod in waiting)}"
        if line != said:
            say(line)
            said = line
        if time.monotonic() > deadline:
            states = "; ".join(_state(pod) for pod in waiting)
            raise KubypassError(
                f"pods are not ready after {wait_s:.0f} s: {states}",
                "--image takes one that nodes have",
            )
        time.sleep(_POLL_S)


def _state(pod: Object) -> str:
    """A pod's name, and the reason why it waits if that will not pass within seconds."""
    name: str = pod["metadata"]["name"]
    for container in pod["status"].get("containerStatuses") or ():
        reason = container.get("state", {}).get("waiting", {}).get("reason", "ContainerCreating")
        if reason in _NO_IMAGE:
            return f"{name} (its image cannot be pulled)"
        if reason != "ContainerCreating":
            return f"{name} ({reason})"
    return name


def read_node_pods(rest: Rest, deployment: Deployment) -> tuple[NodePods, ...]:
    """The nodes of the test, with their pods and addresses."""
    pods = {pod["metadata"]["name"]: pod["status"] for pod in rest.list(f"{_SPACE}/pods")}
    return tuple(
        NodePods(
            letter,
            node,
            _by_family(each["ip"] for each in pods[f"pod-{letter}"].get("podIPs") or ()),
            _by_family(each["ip"] for each in pods[f"host-{letter}"].get("podIPs") or ()),
        )
        for letter, node in zip(deployment.letters, deployment.nodes, strict=True)
    )


def read_services(rest: Rest) -> dict[str, ServiceAddresses]:
    """The addresses and ports of the test's services, by name."""
    found = {}
    for item in rest.list(f"{_SPACE}/services"):
        ports = {
            p["protocol"].lower(): p["nodePort"]
            for p in item["spec"]["ports"]
            if p["port"] == SERVICE_PORT
        }
        addresses = _by_family(item["spec"].get("clusterIPs") or ())
        found[item["metadata"]["name"]] = ServiceAddresses(addresses, ports)
    return found


def has_dns(rest: Rest) -> bool:
    """Whether the cluster has a DNS service."""
    return bool(
        rest.list("/api/v1/namespaces/kube-system/services", labelSelector="k8s-app=kube-dns")
    )


def _by_family(addresses: Iterator[str] | Sequence[str]) -> dict[int, str]:
    """The first address of each family."""
    found: dict[int, str] = {}
    for address in addresses:
        found.setdefault(6 if ":" in address else 4, address)
    return found
