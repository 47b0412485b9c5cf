# SPDX-License-Identifier: Apache-2.0
"""Runs `kubypass cleanup` on every node by a DaemonSet of the agents' image: nodes have no kubypass installed."""

from __future__ import annotations

import copy

from kubypass.install.render import PROC_SYS, Object

NAME = "kubypass-cleanup"
_LABEL = {"k8s-app": NAME}


def _give_all(container: Object, spec: Object) -> None:
    """Lets a container write sysctls and unmount a filesystem for the node, whatever the agents may."""
    container["securityContext"] = {"privileged": True, "readOnlyRootFilesystem": True}
    container["volumeMounts"] = [m for m in container["volumeMounts"] if m["name"] != PROC_SYS]
    spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] != PROC_SYS]
    for mount in container["volumeMounts"]:
        if mount["name"] == "bpffs":
            mount["mountPropagation"] = "Bidirectional"


def cleanup_daemon_set(agents: Object) -> Object:
    """The DaemonSet that cleans nodes, made from that of the agents: it has the same nodes and mounts.

    A pod is ready once its node is clean.
    """
    spec = copy.deepcopy(agents["spec"]["template"]["spec"])
    container = spec["containers"][0]
    for key in ("env", "startupProbe", "livenessProbe", "readinessProbe", "resources"):
        container.pop(key, None)
    _give_all(container, spec)
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
