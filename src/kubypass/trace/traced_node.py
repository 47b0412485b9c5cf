# SPDX-License-Identifier: Apache-2.0
"""A node on which connections can be traced, and what `--from` and `--to` mean there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from kubypass.errors import ConfigError
from kubypass.model.address import Address, family, parse_address
from kubypass.model.protocol import Protocol
from kubypass.trace.messages import ExplainPort
from kubypass.trace.packets import Flow
from kubypass.trace.programs import Programs
from kubypass.trace.run import Source

CLIENT_PORT: Final = 45678
"""The source port of a connection that names none."""
Names = Mapping[str, Mapping[str, list[str]]]
"""Addresses as text, by kind (nodes, services, pods) and name."""
_TARGET = re.compile(r"(?P<host>.+):(?P<port>[0-9]+)(?:/(?P<protocol>[a-zA-Z]+))?")
_KINDS = (("service/", "services"), ("node/", "nodes"), ("pod/", "pods"))


@dataclass(frozen=True, slots=True)
class TracedNode:
    """The node, its programs and the names that are known there."""

    node: str
    programs: Programs
    local: frozenset[Address]
    """The node's own addresses."""
    names: Names
    explain_port: ExplainPort
    problems: list[str]
    without_socket_lb: frozenset[Address] = frozenset()
    """Addresses of pods that have no socket load balancing."""
    pod_nodes: Mapping[str, str] = field(default_factory=dict)
    """The node of each pod; a pod that is missing here is on this node."""

    def parse_flow(self, source: str, target: str) -> tuple[Flow, Source]:
        """Reads `--from` and `--to`; ConfigError names the part that cannot be understood."""
        kind, sources = self._source(source)
        found = _TARGET.fullmatch(target)
        if not found or not 0 < int(found["port"]) < 65536:
            raise ConfigError(f"--to {target}: expected HOST:PORT or HOST:PORT/PROTOCOL")
        protocols = {protocol.name: protocol for protocol in Protocol}
        protocol = protocols.get((found["protocol"] or "tcp").upper())
        if protocol is None:
            raise ConfigError(f"--to {target}: expected tcp, udp or sctp")
        for destination in self._host(found["host"], "--to"):
            for one in sources:
                if family(one) == family(destination):
                    if one in self.without_socket_lb:
                        self.programs.exclude_pod_sockets()
                    return Flow(one, CLIENT_PORT, destination, int(found["port"]), protocol), kind
        raise ConfigError(f"--from {source} --to {target}: no addresses of one family")

    def with_source(self, flow: Flow, kind: Source, text: str) -> tuple[Flow, Address | None]:
        """The flow with the source of `--source-address`, if any, and then the address of the pod that sends it."""
        if not text:
            return flow, None
        address = _address(text)
        if kind != Source.POD:
            raise ConfigError(f"--source-address {text}: only with a pod of this node as --from")
        if address is None or family(address) != family(flow.destination):
            message = f"--source-address {text}: expected an address of the family of --to"
            raise ConfigError(message)
        return replace(flow, source=address), flow.source

    def _source(self, text: str) -> tuple[Source, list[Address]]:
        if text.startswith("pod/"):
            return Source.POD, self.pod_addresses(text.removeprefix("pod/"), f"--from {text}")
        if text == "node" or text.startswith("node/"):
            return self._node(text)
        found = self._host(text, "--from")
        pods = self.names.get("pods", {})
        here = {
            parse_address(a) for pod in pods if self._node_of(pod) == self.node for a in pods[pod]
        }
        if found[0] in here:
            return Source.POD, found
        return (Source.NODE if found[0] in self.local else Source.EXTERNAL), found

    def pod_addresses(self, name: str, given: str) -> list[Address]:
        """Addresses of a pod of this node, by NAMESPACE/NAME or one of them; errors begin with what was `given`."""
        address = _address(name)
        if address is not None:
            return [address]
        found = self._named("pods", name, given.split(maxsplit=1)[0])
        where = self._node_of(_full("pods", name))
        if where != self.node:
            raise ConfigError(f"{given}: it is on node {where}", hint=f"--node {where}")
        return found

    def _node(self, text: str) -> tuple[Source, list[Address]]:
        """Addresses of `node` or `node/NAME`. Among given objects, another node is a client outside."""
        name = text.removeprefix("node").removeprefix("/") or self.node
        if name != self.node and not self.local & set(self._named("nodes", name, "--from")):
            if not self.programs.scratch_network:
                hint = "run it there, or give --manifests and --node"
                raise ConfigError(f"--from {text}: this is node {self.node}", hint=hint)
            return Source.EXTERNAL, self._named("nodes", name, "--from")
        return Source.NODE, sorted(self.local) or self._named("nodes", name, "--from")

    def _node_of(self, pod: str) -> str:
        return self.pod_nodes.get(pod, self.node)

    def _host(self, text: str, option: str) -> list[Address]:
        address = _address(text.strip("[]"))
        if address is not None:
            return [address]
        for prefix, kind in _KINDS:
            if text.startswith(prefix):
                return self._named(kind, text.removeprefix(prefix), option)
        return self._named("nodes", text, option)

    def _named(self, kind: str, name: str, option: str) -> list[Address]:
        known = self.names.get(kind, {})
        full = _full(kind, name)
        if full not in known:
            some = ", ".join(sorted(known)[:5]) or "none"
            where = f" on node {self.node}" if kind == "pods" and not self.pod_nodes else ""
            message = f"{option}: no {kind[:-1]} {full}{where}; known are {some}"
            raise ConfigError(message, hint=first_problems(self.problems))
        return [parse_address(text) for text in known[full]]


def first_problems(problems: Sequence[object]) -> str:
    """Joins the first problems of the objects: one of them may be why an object is missing."""
    return "; ".join(str(problem) for problem in problems[:3])


def _full(kind: str, name: str) -> str:
    """The name with its namespace, which is `default` where none is given; nodes have none."""
    return name if "/" in name or kind == "nodes" else f"default/{name}"


def _address(text: str) -> Address | None:
    try:
        return parse_address(text)
    except ValueError:
        return None
