# SPDX-License-Identifier: Apache-2.0
"""Renders values to objects as the chart's templates do, so that no machine needs helm (ADR 10).

The package contains the objects of the default values, and each value changes them in one way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubypass.errors import ConfigError
from kubypass.install.chart import rendered_objects

Object = dict[str, Any]
NAMESPACE = "kube-system"
CONFIG_MAP = "kubypass-config"
PROC_SYS = "proc-sys-net"
"""The volume by which an agent without privileges sets sysctls."""
_POLICY = "ValidatingAdmissionPolicy"
_REPLACEMENT = "kube-proxy-replacement"


def render(values: Mapping[str, Any]) -> list[Object]:
    """The objects in the order of creation. ConfigError: the API server's address is missing."""
    if needs_api_server(values):
        raise ConfigError(
            "k8sServiceHost is not set: expected an API server's own address or name as nodes reach it",
            "--set k8sServiceHost=ADDRESS --set k8sServicePort=PORT",
        )
    objects = rendered_objects()
    by_kind = {each["kind"]: each for each in objects}
    if annotations := values["serviceAccount"]["annotations"]:
        by_kind["ServiceAccount"]["metadata"]["annotations"] = annotations
    names = [values["configMap"], *values["nodeConfigs"]]
    by_kind["Role"]["rules"][0]["resourceNames"] = names
    _edit_pods(by_kind["DaemonSet"]["spec"], values)
    if not values["admissionPolicy"]:
        objects = [each for each in objects if not each["kind"].startswith(_POLICY)]
    if values["configMap"] != CONFIG_MAP:
        objects.remove(by_kind["ConfigMap"])
    elif values["config"]:
        by_kind["ConfigMap"]["data"] = dict(values["config"])
    else:
        del by_kind["ConfigMap"]["data"]
    return objects


def agents_of(objects: Sequence[Object]) -> Object:
    """The agents' DaemonSet."""
    return next(each for each in objects if each["kind"] == "DaemonSet")


def needs_api_server(values: Mapping[str, Any]) -> bool:
    """Whether the values lack the API server's address.

    An agent that serves the API server's Service cannot connect through it.
    """
    return not values["k8sServiceHost"] and values["config"].get(_REPLACEMENT) != "false"


def _edit_pods(spec: Object, values: Mapping[str, Any]) -> None:
    spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = values["maxUnavailable"]
    metadata, pod = spec["template"]["metadata"], spec["template"]["spec"]
    metadata["labels"] |= values["podLabels"]
    if values["privileged"]:
        _make_privileged(metadata, pod)
    if values["podAnnotations"]:
        metadata["annotations"] = {**metadata.get("annotations", {}), **values["podAnnotations"]}
    for key in ("imagePullSecrets", "affinity"):
        if values[key]:
            pod[key] = values[key]
    for key in ("priorityClassName", "nodeSelector", "tolerations"):
        pod[key] = values[key]
    paths = {
        "cgroup": values["cgroup"]["hostRoot"],
        "cni-conf": values["cni"]["confDir"],
        "cni-bin": values["cni"]["binDir"],
    }
    _set_paths(pod, paths)
    container = pod["containers"][0]
    for one in pod.get("initContainers", ()):
        one["image"] = _image(one["image"], values["image"])
        one["imagePullPolicy"] = values["image"]["pullPolicy"]
    _edit_container(container, values)
    if not values["cni"]["enabled"]:
        for mounts in (pod["volumes"], container["volumeMounts"]):
            mounts[:] = [each for each in mounts if not each["name"].startswith("cni-")]


def _set_paths(pod: Object, paths: Mapping[str, str]) -> None:
    """Gives volumes, by their names, other paths of the host."""
    for volume in pod["volumes"]:
        if volume["name"] in paths:
            volume["hostPath"]["path"] = paths[volume["name"]]


def _make_privileged(metadata: Object, pod: Object) -> None:
    """Leaves out the init container and all that stands in for privileges."""
    del metadata["annotations"], pod["initContainers"]
    container = pod["containers"][0]
    container["env"] = [one for one in container["env"] if one["name"] != "KUBYPASS_PROC_SYS"]
    give_privileges(pod)


def give_privileges(pod: Object) -> None:
    """Lets the pod's container write sysctls, mount and unmount for the node by itself, with no volume for it."""
    container = pod["containers"][0]
    container["securityContext"] = {"privileged": True, "readOnlyRootFilesystem": True}
    pod["volumes"] = [volume for volume in pod["volumes"] if volume["name"] != PROC_SYS]
    mounts = [mount for mount in container["volumeMounts"] if mount["name"] != PROC_SYS]
    container["volumeMounts"] = mounts
    for mount in mounts:
        if mount["name"] == "bpffs":
            mount["mountPropagation"] = "Bidirectional"


def _edit_container(container: Object, values: Mapping[str, Any]) -> None:
    container["image"] = _image(container["image"], values["image"])
    container["imagePullPolicy"] = values["image"]["pullPolicy"]
    container["resources"] = values["resources"]
    port = values["healthPort"]
    options = {
        "--config-map": f"{NAMESPACE}/{values['configMap']}",
        "--node-configs": ",".join(values["nodeConfigs"]),
        "--agent-health-port": port,
    }
    pairs = [argument.partition("=") for argument in container["args"]]
    container["args"] = [
        f"{name}{equals}{options.get(name, text)}"
        for name, equals, text in pairs
        if values["cni"]["enabled"] or not name.startswith("--cni-")
    ]
    container["args"] += values["extraArgs"]
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        container[name]["httpGet"]["port"] = port
    server = {
        "KUBERNETES_SERVICE_HOST": values["k8sServiceHost"],
        "KUBERNETES_SERVICE_PORT": str(values["k8sServicePort"]),
    }
    if not values["k8sServiceHost"]:
        container["env"] = [each for each in container["env"] if each["name"] not in server]
    for variable in container["env"]:
        if variable["name"] in server:
            variable["value"] = server[variable["name"]]


def _image(default: str, image: Mapping[str, str]) -> str:
    if image["digest"]:
        return f"{image['repository']}@{image['digest']}"
    return f"{image['repository']}:{image['tag'] or default.rpartition(':')[2]}"
