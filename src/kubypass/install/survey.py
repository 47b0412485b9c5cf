# SPDX-License-Identifier: Apache-2.0
"""Surveys a cluster before an installation: what serves services and pods now, and whether kubypass can work there."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from kubypass.install.render import NAMESPACE
from kubypass.kube.client.failures import Refused
from kubypass.kube.client.rest import Object, Rest
from kubypass.model.address import in_brackets
from kubypass.settings.check import check_settings

_KERNEL, _CAPABLE = (5, 10), (5, 11)
_POLICIES = (1, 30)
"""The version of Kubernetes that has ValidatingAdmissionPolicies."""
_NETWORKS = {
    "calico-node": "Calico",
    "canal": "Canal",
    "cilium": "Cilium",
    "kube-flannel-ds": "Flannel",
    "kindnet": "kindnet",
    "weave-net": "Weave Net",
    "antrea-agent": "Antrea",
    "kube-router": "kube-router",
    "aws-node": "the AWS VPC CNI",
}
_DAEMONSETS = "/apis/apps/v1/daemonsets"
_POLICY_KINDS = {
    "NetworkPolicy": "/apis/networking.k8s.io/v1/networkpolicies",
    "AdminNetworkPolicy": "/apis/policy.networking.k8s.io/v1alpha1/adminnetworkpolicies",
    "BaselineAdminNetworkPolicy": "/apis/policy.networking.k8s.io/v1alpha1/baselineadminnetworkpolicies",
    "ClusterNetworkPolicy": "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies",
    "CiliumNetworkPolicy": "/apis/cilium.io/v2/ciliumnetworkpolicies",
    "CiliumClusterwideNetworkPolicy": "/apis/cilium.io/v2/ciliumclusterwidenetworkpolicies",
    "Calico NetworkPolicy": "/apis/crd.projectcalico.org/v1/networkpolicies",
    "Calico GlobalNetworkPolicy": "/apis/crd.projectcalico.org/v1/globalnetworkpolicies",
}
_NAMED = 10


@dataclass(frozen=True, slots=True)
class Remark:
    """One finding. `stop` prevents an installation; `note` is for information."""

    level: Literal["stop", "note"]
    text: str


@dataclass(frozen=True, slots=True)
class Policies:
    """Objects of one kind that are to filter traffic."""

    kind: str
    names: tuple[str, ...]
    """Each with its namespace where the kind has one."""
    refused: str = ""
    """Why the API server does not list them."""


@dataclass(frozen=True, slots=True)
class Survey:
    """The facts about a cluster."""

    version: str
    nodes: tuple[Object, ...]
    daemon_sets: tuple[Object, ...]
    service_addresses: tuple[str, ...]
    """The addresses of the Service default/kubernetes."""
    servers: tuple[tuple[str, int], ...]
    """The addresses and ports of the API servers, from their EndpointSlices."""
    policies: tuple[Policies, ...] = ()


def look_at(rest: Rest) -> Survey:
    """Ask the API server. Unreachable or Refused: it did not answer, or forbade it."""
    version = rest.get("/version") or {}
    service = rest.get("/api/v1/namespaces/default/services/kubernetes") or {}
    slices = rest.list(
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        labelSelector="kubernetes.io/service-name=kubernetes",
    )
    return Survey(
        version.get("gitVersion", ""),
        tuple(rest.list("/api/v1/nodes")),
        tuple(rest.list(_DAEMONSETS)),
        tuple(service.get("spec", {}).get("clusterIPs") or ()),
        tuple(_servers(slices)),
        tuple(_policies(rest)),
    )


def _policies(rest: Rest) -> Iterator[Policies]:
    for kind, path in _POLICY_KINDS.items():
        try:
            found = [each["metadata"] for each in rest.list(path)]
        except Refused as refusal:
            yield Policies(kind, (), refusal.message)
            continue
        if found:
            names = (f"{each.get('namespace', '')}/{each['name']}".lstrip("/") for each in found)
            yield Policies(kind, tuple(sorted(names)))


def _servers(slices: list[Object]) -> Iterator[tuple[str, int]]:
    for found in slices:
        ports = [port["port"] for port in found.get("ports") or () if port.get("port")]
        for endpoint in found.get("endpoints") or ():
            for address in endpoint["addresses"]:
                yield address, ports[0] if ports else 443


def api_server(survey: Survey, host: str, port: int) -> tuple[str, int] | None:
    """The address at which nodes reach an API server.

    It is the address that the operator uses, unless that is of this machine or of the Service.
    """
    with suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback or host in survey.service_addresses:
            return next(iter(survey.servers), None)
    return next(iter(survey.servers), None) if host == "localhost" else (host, port)


def remarks(survey: Survey, values: Mapping[str, Any]) -> list[Remark]:
    """All remarks, those that prevent an installation first."""
    found = [
        *_setting_remarks(values["config"]),
        *_server_remarks(survey, values["k8sServiceHost"]),
        *_policy_remarks(survey.version, enabled=values["admissionPolicy"]),
        *_node_remarks(survey.nodes, values),
        *_rival_remarks(survey.daemon_sets, values),
        *_network_policy_remarks(survey.policies),
    ]
    return sorted(found, key=lambda remark: remark.level != "stop")


def _setting_remarks(config: Mapping[str, str]) -> Iterator[Remark]:
    """Remarks on the settings, with the same checks as the agents'."""
    for finding in check_settings(config)[1]:
        if finding.level != "accepted":
            level: Literal["stop", "note"] = "stop" if finding.level == "wrong" else "note"
            yield Remark(level, f"config: {finding}")


def _server_remarks(survey: Survey, host: str) -> Iterator[Remark]:
    if host and (set(_addresses(host)) & set(survey.service_addresses)):
        own = (
            ", ".join(f"{in_brackets(address)}:{port}" for address, port in survey.servers)
            or "unknown"
        )
        yield Remark(
            "stop",
            f"k8sServiceHost {host} is the address of the service default/kubernetes, which kubypass itself serves; "
            f"set an API server's own address ({own})",
        )


def _policy_remarks(version: str, *, enabled: bool) -> Iterator[Remark]:
    numbers = re.match(r"v(\d+)\.(\d+)", version)
    if enabled and numbers and (int(numbers[1]), int(numbers[2])) < _POLICIES:
        yield Remark(
            "stop",
            f"Kubernetes {version} has no ValidatingAdmissionPolicy (1.30): --set admissionPolicy=false; "
            "each agent may then change every node",
        )


def _network_policy_remarks(found: tuple[Policies, ...]) -> Iterator[Remark]:
    """What filters traffic now, or is thought to, and will not with kubypass."""
    for one in found:
        if one.refused:
            text = f"whether there are objects of kind {one.kind} is not known: {one.refused}; kubypass enforces none"
            yield Remark("note", text)
            continue
        more = f" and {len(one.names) - _NAMED} more" if len(one.names) > _NAMED else ""
        yield Remark(
            "note",
            f"{len(one.names)} of kind {one.kind} ({', '.join(one.names[:_NAMED])}{more}): kubypass enforces none of "
            "them, and forwards pods' packets past filters of other networks: every pod can connect to every other; "
            "filter in the applications, or keep the network that enforces them",
        )


def _addresses(host: str) -> Iterator[str]:
    yield host
    with suppress(OSError):
        yield from (str(each[4][0]) for each in socket.getaddrinfo(host, None))


def _node_remarks(nodes: tuple[Object, ...], values: Mapping[str, Any]) -> Iterator[Remark]:
    chosen = [node for node in nodes if _is_chosen(node, values["nodeSelector"])]
    if not chosen:
        yield Remark("stop", f"none of {len(nodes)} nodes has the labels of nodeSelector")
    for node in chosen:
        name, kernel = node["metadata"]["name"], node["status"]["nodeInfo"]["kernelVersion"]
        numbers = re.match(r"(\d+)\.(\d+)", kernel)
        if numbers and (int(numbers[1]), int(numbers[2])) < _KERNEL:
            yield Remark("stop", f"node {name} runs Linux {kernel}; 5.10 or newer is needed")
        elif numbers and (int(numbers[1]), int(numbers[2])) < _CAPABLE and not values["privileged"]:
            yield Remark(
                "stop",
                f"node {name} runs Linux {kernel}: before 5.11 an agent has to be privileged (RLIMIT_MEMLOCK limits "
                "its maps); --set privileged=true",
            )
        if values["cni"]["enabled"] and not node["spec"].get("podCIDRs"):
            yield Remark(
                "note",
                f"node {name} has no podCIDR: its pods get no addresses until the controller manager gives it one "
                "(--allocate-node-cidrs, --cluster-cidr)",
            )


def _is_chosen(node: Object, selector: Mapping[str, str]) -> bool:
    labels = node["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in selector.items())


def _rival_remarks(daemon_sets: tuple[Object, ...], values: Mapping[str, Any]) -> Iterator[Remark]:
    for found in daemon_sets:
        namespace, name = found["metadata"]["namespace"], found["metadata"]["name"]
        image = found["spec"]["template"]["spec"]["containers"][0]["image"]
        if name == "kube-proxy":
            yield Remark(
                "note",
                f"kube-proxy runs ({namespace}/{name}): both can run at a time, kubypass comes first; once its agents "
                f"are ready, kubectl -n {namespace} delete daemonset {name}",
            )
        if network := _NETWORKS.get(name):
            here = "runs beside it" if not values["cni"]["enabled"] else "takes new pods from it"
            yield Remark(
                "note",
                f"{network} is there ({namespace}/{name}): with cni.enabled={str(values['cni']['enabled']).lower()} "
                f"kubypass {here}",
            )
        if (namespace, name) == (NAMESPACE, "kubypass"):
            yield Remark("note", f"kubypass is there already ({image}): it is updated")
