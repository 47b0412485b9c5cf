# SPDX-License-Identifier: Apache-2.0
"""Runs `kubypass cleanup` on every node by a DaemonSet of the agents' image: nodes have no kubypass installed."""

from __future__ import annotations

import copy

from kubypass.install.render import Object, give_privileges

NAME = "kubypass-cleanup"
_LABEL = {"k8s-app": NAME}


def cleanup_daemon_set(agents: Object) -> Object:
    """The DaemonSet that cleans nodes, made from that of the agents: it has the same nodes and mounts.

    A pod is ready once its node is clean.
    """
    spec = copy.deepcopy(agents["spec"]["template"]["spec"])
    container = spec["containers"][0]
    for key in ("env", "startupProbe", "livenessProbe", "readinessProbe", "resources"):
        container.pop(key, None)
    give_privileges(spec)
    clean = {**container, "name": "cleanup", "args": ["cleanup"]}
    rest = {
        "name": "done",
        "image": container["image"],
        "imagePullPolicy": container["imagePullPolicy"],
        "command": ["sleep", "infinity"],
    }
    spec |= {"initContainers": [clean], "containers": [rest], "terminationGracePeriodSeconds": 0}
    spec |= {"serviceAccountName": "default", "automountServiceAccountToken": False}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": NAME, "namespace": agents["metadata"]["namespace"], "labels": _LABEL},
        "spec": {
            "selector": {"matchLabels": _LABEL},
            "template": {"metadata": {"labels": _LABEL}, "spec": spec},
        },
    }
