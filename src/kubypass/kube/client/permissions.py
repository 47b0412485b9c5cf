# SPDX-License-Identifier: Apache-2.0
"""The RBAC permissions of the agent. It uses every verb of them.

CLUSTER_RULES are its ClusterRole, CONFIG_RULES its Role in the namespace of the settings' ConfigMap.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import CREATED, OK

import msgspec

from kubypass.kube.client.connection import Connection


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of RBAC."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    names: tuple[str, ...] = ()
    """The objects that it is about; empty: all."""

    def __str__(self) -> str:
        parts: dict[str, tuple[str, ...]] = {
            "apiGroups": (self.group,),
            "resources": (self.resource,),
        }
        parts |= {"resourceNames": self.names} if self.names else {}
        parts |= {"verbs": self.verbs}
        texts = (
            f"{key}: [{', '.join(f'{chr(34)}{t}{chr(34)}' for t in some)}]"
            for key, some in parts.items()
        )
        return f"{{{', '.join(texts)}}}"

    def as_object(self) -> dict[str, list[str]]:
        """The rule as a Role has it."""
        rule = {"apiGroups": [self.group], "resources": [self.resource], "verbs": [*self.verbs]}
        return {**rule, "resourceNames": [*self.names]} if self.names else rule


CLUSTER_RULES: tuple[Rule, ...] = (
    Rule("", "services", ("list", "watch"), "the Services that are served"),
    Rule("discovery.k8s.io", "endpointslices", ("list", "watch"), "their endpoints"),
    Rule("", "nodes", ("list", "watch"), "addresses, zones and pod networks of nodes"),
    Rule("", "pods", ("list", "watch"), "host ports and labels of this node's pods"),
    Rule("", "nodes", ("patch",), "removes the taint of a node without an agent"),
    Rule("", "events", ("create",), "problems, on the Service, Pod or Node that has them"),
)
CONFIG_RULES: tuple[Rule, ...] = (
    Rule("", "configmaps", ("list", "watch"), "settings, in the ConfigMap's namespace only"),
)


def config_rules(names: Iterable[str]) -> tuple[Rule, ...]:
    """The rules for ConfigMaps of these names, or for all where there are none."""
    return tuple(dataclasses.replace(rule, names=tuple(names)) for rule in CONFIG_RULES)


class _ReviewStatus(msgspec.Struct, gc=False):
    allowed: bool = False


class _Review(msgspec.Struct, gc=False):
    status: _ReviewStatus


def missing(connection: Connection, rules: Iterable[Rule], namespace: str = "") -> list[Rule]:
    """Asks the server about each verb. Returns the rules with denied verbs, reduced to these."""
    found = []
    for rule in rules:
        denied = tuple(
            verb
            for verb in rule.verbs
            if not all(
                _may(connection, rule, verb, namespace, name) for name in rule.names or ("",)
            )
        )
        if denied:
            found.append(dataclasses.replace(rule, verbs=denied))
    return found


def _may(connection: Connection, rule: Rule, verb: str, namespace: str, name: str) -> bool:
    attributes = {"verb": verb, "group": rule.group, "resource": rule.resource}
    if name:
        attributes["name"] = name
    if namespace:
        attributes["namespace"] = namespace
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer = connection.request(path, "POST", json.dumps(review).encode())
    body = connection.read(answer)
    if answer.status not in {OK, CREATED}:
        return True  # unknown
    return msgspec.json.decode(body, type=_Review).status.allowed


def missing_message(rules: Iterable[Rule], config_rules: Iterable[Rule], namespace: str) -> str:
    """Names each missing verb and the rules to add. `config_rules` belong to the Role in the namespace."""
    by_role = {"its ClusterRole": list(rules), f"its Role in {namespace}": list(config_rules)}
    everything = [rule for some in by_role.values() for rule in some]
    verbs = "; ".join(f"{', '.join(rule.verbs)} {rule.resource}" for rule in everything)
    added = "; ".join(
        f"add to {role}: {', '.join(map(str, some))}" for role, some in by_role.items() if some
    )
    return f"the agent may not {verbs}; {added}"
