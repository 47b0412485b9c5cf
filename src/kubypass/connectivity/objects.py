# SPDX-License-Identifier: Apache-2.0
"""The objects of a test: a namespace, services, and two pods for each node. Pure.

One of the pods of a node is on the node's network.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kubypass.connectivity.responder import TOKEN
from kubypass.kube.client.rest import Object

NAMESPACE = "kubypass-test"
LABEL = "kubypass.io/connectivity-test"
PORT = 8080
"""The port of test pods."""
SERVICE_PORT = 80
HOST_PORT = 14650
"""The port of pods on their node's network, which is below the ranges of NodePorts and of ephemeral ports."""
PORT_OF_NODE = 14651
"""The hostPort of pods in the pod network."""
_ACCOUNT = "probe"
_RESOLVER = {"name": "RES_OPTIONS", "value": "timeout:2 attempts:2"}
"""Resolver options (resolv.conf(5)) with which a dead name server fails before the request times out."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """The parameters of the objects. The first node is called `a`, the second `b`."""

    nodes: tuple[str, ...]
    image: str
    token: str

    @property
    def letters(self) -> tuple[str, ...]:
        """The letters of the nodes."""
        return tuple("ab"[: len(self.nodes)])


def objects(deployment: Deployment) -> list[Object]:
    """All objects, in the order of creation."""
    found = [_namespace(), _account()]
    for letter, node in zip(deployment.letters, deployment.nodes, strict=True):
        found.append(_pod(deployment, f"pod-{letter}", letter, node, on_host=False))
        found.append(_pod(deployment, f"host-{letter}", letter, node, on_host=True))
    return [*found, *_services(deployment)]


def _namespace() -> Object:
    """The namespace. Pods on their node's network need the privileged level of pod security."""
    labels = {LABEL: "true", "pod-security.kubernetes.io/enforce": "privileged"}
    metadata = {"name": NAMESPACE, "labels": labels}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def _account() -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": _ACCOUNT, "namespace": NAMESPACE},
    }


def _pod(deployment: Deployment, name: str, letter: str, node: str, *, on_host: bool) -> Object:
    port = HOST_PORT if on_host else PORT
    fields = {"POD_NAME": "metadata.name", "NODE_NAME": "spec.nodeName"}
    variables = [
        {"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}}
        for key, path in fields.items()
    ]
    container: Object = {
        "name": "responder",
        "image": deployment.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-m", "kubypass.connectivity.responder", f"--port={port}"],
        "env": [*variables, {"name": TOKEN, "value": deployment.token}, _RESOLVER],
        "readinessProbe": {"httpGet": {"path": "/who", "port": port}, "periodSeconds": 1},
    }
    if not on_host:
        container["ports"] = [
            {"containerPort": PORT, "hostPort": PORT_OF_NODE, "protocol": protocol}
            for protocol in ("TCP", "UDP")
        ]
    role = "host" if on_host else "pod"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {"role": role, "place": letter},
        },
        "spec": {
            "nodeName": node,
            "hostNetwork": on_host,
            "serviceAccountName": _ACCOUNT,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "restartPolicy": "Always",
            "tolerations": [{"operator": "Exists"}],
            "containers": [container],
        },
    }


def _services(deployment: Deployment) -> Iterable[Object]:
    """The services of the test.

    `all` has every pod; `pod-a` and `pod-b` have one pod each; `local` has only the first node's pod.
    """
    yield _service("all", {"role": "pod"})
    for letter in deployment.letters:
        yield _service(f"pod-{letter}", {"role": "pod", "place": letter})
    yield _service("local", {"role": "pod", "place": "a"}, local=True)


def _service(name: str, selector: dict[str, str], *, local: bool = False) -> Object:
    ports = [
        {"name": protocol.lower(), "protocol": protocol, "port": SERVICE_PORT, "targetPort": PORT}
        for protocol in ("TCP", "UDP")
    ]
    spec = {
        "type": "NodePort",
        "selector": selector,
        "ports": ports,
        "ipFamilyPolicy": "PreferDualStack",
        "externalTrafficPolicy": "Local" if local else "Cluster",
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }
