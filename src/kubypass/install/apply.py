# SPDX-License-Identifier: Apache-2.0
"""Applies objects to a cluster, waits for the agents, and deletes objects."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from http.client import CONFLICT
from typing import Any

from kubypass.errors import KubeError
from kubypass.install.render import NAMESPACE, Object
from kubypass.kube.client.failures import Refused, Unreachable
from kubypass.kube.client.rest import Rest

Say = Callable[[str], None]
_DAEMON_SET = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets"
_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
_POLL_S = 0.5
_OF_THE_SERVER = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp")


def name_of(item: Object) -> str:
    """The name of an object in messages, such as `DaemonSet kube-system/kubypass`."""
    metadata = item["metadata"]
    namespace = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{item['kind']} {namespace}{metadata['name']}"


def apply_all(
    rest: Rest, objects: Sequence[Object], *, dry_run: bool, force: bool
) -> Iterator[tuple[Object, str]]:
    """Apply the objects. Yields each with the outcome: created, configured or unchanged."""
    for item in objects:
        before = rest.get(rest.path_of(item))
        try:
            after = rest.apply(item, dry_run=dry_run, force=force)
        except Refused as refusal:
            hint = "--force-conflicts takes these fields over" if refusal.code == CONFLICT else ""
            raise KubeError(f"{name_of(item)}: {refusal.message}", hint) from None
        if before is None:
            yield item, "created"
        else:
            same = _content(before) == _content(after)
            yield item, "unchanged" if same else "configured"


def _content(item: Object) -> Object:
    """The object without the fields that the API server fills in."""
    found = copy.deepcopy(item)
    found.pop("status", None)
    for key in _OF_THE_SERVER:
        found["metadata"].pop(key, None)
    return found


def wait_ready(rest: Rest, name: str, timeout_s: float, say: Say) -> list[str]:
    """Wait until every pod of a DaemonSet is ready and has the newest template.

    After the timeout, returns a line for each pod that is not, with the reason.
    """
    deadline, said = time.monotonic() + timeout_s, ""
    while True:
        item = _get_through(rest, f"{_DAEMON_SET}/{name}", deadline) or {}
        status = item.get("status", {})
        wanted = status.get("desiredNumberScheduled", 0)
        done = min(status.get(key, 0) for key in ("numberReady", "updatedNumberScheduled"))
        seen = status.get("observedGeneration") == item.get("metadata", {}).get("generation")
        if seen and wanted and done >= wanted:
            return []
        line = f"{done} of {wanted} nodes ready" if seen else ""
        if line and line != said:
            say(line)
            said = line
        if time.monotonic() > deadline:
            return _reasons(rest, name)
        time.sleep(_POLL_S)


def _get_through(rest: Rest, path: str, deadline: float) -> Object | None:
    """GET an object, and retry until the deadline while the API server is unreachable: routes to it may be changing."""
    while True:
        try:
            return rest.get(path)
        except Unreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)


def _reasons(rest: Rest, name: str) -> list[str]:
    found = []
    for pod in rest.list(_PODS, labelSelector=f"k8s-app={name}"):
        conditions = {each["type"]: each for each in pod["status"].get("conditions") or ()}
        if conditions.get("Ready", {}).get("status") != "True":
            where = pod["spec"].get("nodeName") or "no node yet"
            found.append(f"{pod['metadata']['name']} ({where}): {_reason(pod, conditions)}")
    return found or ["no pod has been made yet"]


def _reason(pod: Object, conditions: dict[str, Any]) -> str:
    """Why a pod is not ready: the exit message of a container if one ended, else the reason for which one waits."""
    found: dict[str, str] = {}
    for key in ("initContainerStatuses", "containerStatuses"):
        for container in pod["status"].get(key) or ():
            for state in (container.get("lastState", {}), container.get("state", {})):
                for how in ("terminated", "waiting"):
                    if how in state and state[how].get("exitCode") != 0:
                        words = (
                            state[how].get("reason"),
                            (state[how].get("message") or "").strip(),
                        )
                        found.setdefault(how, ": ".join(word for word in words if word))
    if found:
        return found.get("terminated") or found["waiting"]
    scheduled = conditions.get("PodScheduled", {})
    return scheduled.get("message") or "it runs and is not ready: see its log"


def remove_all(rest: Rest, objects: Sequence[Object]) -> Iterator[tuple[Object, bool]]:
    """Delete the objects in reverse order. Yields each, and whether it existed."""
    for item in reversed(objects):
        yield item, rest.knows(item) and rest.delete(rest.path_of(item))


def wait_gone(rest: Rest, name: str, timeout_s: float) -> list[str]:
    """Wait until a DaemonSet has no pods. After the timeout, returns the names of those that are left."""
    deadline = time.monotonic() + timeout_s
    while True:
        left = rest.list(_PODS, labelSelector=f"k8s-app={name}")
        if not left or time.monotonic() > deadline:
            return [pod["metadata"]["name"] for pod in left]
        time.sleep(_POLL_S)
