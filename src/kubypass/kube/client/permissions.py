# SPDX-License-Identifier: Apache-2.0
"""What the agent may do in the API: no more than this, and every verb of it is used.

Each row is a rule of its ClusterRole; those of ConfigMaps are a Role in the ConfigMap's namespace.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import CREATED, OK

import msgspec

from kubypass.kube.client.connection import Connection


@dataclass(frozen=True, slots=True)
class Rule:
    """Of RBAC."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str

    def __str__(self) -> str:
        verbs = ", ".join(f'"{verb}"' for verb in self.verbs)
        return f'{{apiGroups: ["{self.group}"], resources: ["{self.resource}"], verbs: [{verbs}]}}'

    def as_object(self) -> dict[str, list[str]]:
        """As it stands in a role."""
        return {"apiGroups": [self.group], "resources": [self.resource], "verbs": [*self.verbs]}


CLUSTER_RULES: tuple[Rule, ...] = (
    Rule("", "services", ("list", "watch"), "what is served"),
    Rule("discovery.k8s.io", "endpointslices", ("list", "watch"), "where it is served from"),
    Rule("", "nodes", ("list", "watch"), "addresses, zones and pod networks"),
    Rule("", "pods", ("list", "watch"), "of this node: hostPorts, labels"),
    Rule("", "nodes", ("patch",), "the taint of a node without agent is taken away"),
    Rule("", "events", ("create",), "a NodePort that a process of the node wanted"),
)
CONFIG_RULES: tuple[Rule, ...] = (
    Rule("", "configmaps", ("list", "watch"), "settings, in the ConfigMap's namespace only"),
)


class _ReviewStatus(msgspec.Struct, gc=False):
    allowed: bool = False


class _Review(msgspec.Struct, gc=False):
    status: _ReviewStatus


def missing(connection: Connection, rules: Iterable[Rule], namespace: str = "") -> list[Rule]:
    """Rules, each with those of its verbs only that we may not; asks the server for each verb."""
    found = []
    for rule in rules:
        denied = tuple(v for v in rule.verbs if not _may(connection, rule, v, namespace))
        if denied:
            found.append(Rule(rule.group, rule.resource, denied, rule.why))
    return found


def _may(connection: Connection, rule: Rule, verb: str, namespace: str) -> bool:
    attributes = {"verb": verb, "group": rule.group, "resource": rule.resource}
    if namespace:
        attributes["namespace"] = namespace
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer = connection.ask(path, "POST", json.dumps(review).encode())
    body = connection.read(answer)
    if answer.status not in {OK, CREATED}:
        return True  # nobody knows
    return msgspec.json.decode(body, type=_Review).status.allowed


def missing_message(rules: Iterable[Rule], config_rules: Iterable[Rule], namespace: str) -> str:
    """Each missing verb by name, and what to add; `config_rules` are those of ConfigMaps in the namespace."""
    by_role = {"its ClusterRole": list(rules), f"its Role in {namespace}": list(config_rules)}
    everything = [rule for some in by_role.values() for rule in some]
    verbs = "; ".join(f"{', '.join(rule.verbs)} {rule.resource}" for rule in everything)
    added = "; ".join(
        f"add to {role}: {', '.join(map(str, some))}" for role, some in by_role.items() if some
    )
    return f"the agent may not {verbs}; {added}"
