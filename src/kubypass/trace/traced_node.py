# SPDX-License-Identifier: Apache-2.0
"""Where a trace looks: at a node whose agent's maps are live, or at objects that are given."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from kubypass.api.client import NotRunning, get
from kubypass.datapath import layout
from kubypass.datapath.pins import Pins
from kubypass.errors import ConfigError, KernelError
from kubypass.kernel.bpf import Map
from kubypass.kernel.features import probe_features
from kubypass.kernel.netns import netns_cookie
from kubypass.kube.manifests.manifest_source import ManifestSource
from kubypass.kube.snapshot import Snapshot
from kubypass.model.address import (
    Address,
    family,
    format_address,
    is_ipv6_link_local,
    parse_address,
)
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import BackendList, LocalAddressKind
from kubypass.node.facts import read_node
from kubypass.node.record import load_state
from kubypass.plan.explain import Explained
from kubypass.settings.files import load_settings
from kubypass.trace.batch import CLIENT_PORT
from kubypass.trace.messages import Explain
from kubypass.trace.node_view import objects_of
from kubypass.trace.packets import Flow
from kubypass.trace.programs import SHARED, Programs, open_programs
from kubypass.trace.run import Source
from kubypass.trace.scratch_maps import Cluster

Names = Mapping[str, Mapping[str, list[str]]]
"""Addresses by kind (nodes, services, pods) and name."""
_TARGET = re.compile(r"(?P<host>.+):(?P<port>[0-9]+)(?:/(?P<protocol>[a-zA-Z]+))?")


@dataclass(frozen=True, slots=True)
class Place:
    """One node, ready for connections to be run."""

    node: str
    programs: Programs
    local: frozenset[Address]
    names: Names
    explain: Explain
    problems: list[str]
    packet_pods: frozenset[Address] = frozenset()
    """Addresses of pods without socket load balancing."""
    pod_nodes: Mapping[str, str] = field(default_factory=dict)
    """Where pods are; those that are not here are on this node."""

    def flow(self, source: str, target: str) -> tuple[Flow, Source]:
        """What the command line means; ConfigError names the part that cannot be understood."""
        kind, sources = self._source(source)
        found = _TARGET.fullmatch(target)
        if not found or not 0 < int(found["port"]) < 65536:
            raise ConfigError(f"--to {target}: expected HOST:PORT or HOST:PORT/PROTOCOL")
        protocols = {protocol.name: protocol for protocol in Protocol}
        protocol = protocols.get((found["protocol"] or "tcp").upper())
        if protocol is None:
            raise ConfigError(f"--to {target}: expected tcp, udp or sctp")
        targets = self._host(found["host"], "--to")
        for destination in targets:
            for one in sources:
                if family(one) == family(destination):
                    if one in self.packet_pods:
                        self.programs.leave_sockets_alone()
                    return Flow(one, CLIENT_PORT, destination, int(found["port"]), protocol), kind
        raise ConfigError(f"--from {source} --to {target}: no addresses of one family")

    def _source(self, text: str) -> tuple[Source, list[Address]]:
        if text.startswith("pod/"):
            name = text.removeprefix("pod/")
            address = _address(name)
            if address is not None:
                return Source.POD, [address]
            found = self._named("pods", name, "--from")
            where = self._node_of(_full("pods", name))
            if where != self.node:
                raise ConfigError(f"--from {text}: it is on node {where}", hint=f"--node {where}")
            return Source.POD, found
        if text == "node" or text.startswith("node/"):
            name = text.removeprefix("node").removeprefix("/") or self.node
            if name != self.node and not self.local & set(self._named("nodes", name, "--from")):
                if not self.programs.scratch_network:
                    hint = "run it there, or give --manifests and --node"
                    raise ConfigError(f"--from {text}: this is node {self.node}", hint=hint)
                return Source.EXTERNAL, self._named("nodes", name, "--from")
            return Source.NODE, sorted(self.local) or self._named("nodes", name, "--from")
        found = self._host(text, "--from")
        pods = self.names.get("pods", {})
        here = {
            parse_address(a) for pod in pods if self._node_of(pod) == self.node for a in pods[pod]
        }
        if found[0] in here:
            return Source.POD, found
        return (Source.NODE if found[0] in self.local else Source.EXTERNAL), found

    def _node_of(self, pod: str) -> str:
        return self.pod_nodes.get(pod, self.node)

    def _host(self, text: str, option: str) -> list[Address]:
        address = _address(text.strip("[]"))
        if address is not None:
            return [address]
        for prefix, kind in (("service/", "services"), ("node/", "nodes"), ("pod/", "pods")):
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
            raise ConfigError(message, hint=_first(self.problems))
        return [parse_address(text) for text in known[full]]


def _first(problems: Sequence[object]) -> str:
    """Some of what is wrong with the objects: it may be why one is missing."""
    return "; ".join(str(problem) for problem in problems[:3])


def _full(kind: str, name: str) -> str:
    return name if "/" in name or kind == "nodes" else f"default/{name}"


def _address(text: str) -> Address | None:
    try:
        return parse_address(text)
    except ValueError:
        return None


@contextmanager
def live_place(arguments: argparse.Namespace) -> Iterator[Place]:
    """The node that we are on, with the maps that its agent pinned; the agent itself only tells names and reasons."""
    pins = Pins(arguments.bpffs)
    state = load_state(arguments.run_directory)
    try:
        shared = {name: pins.open_map(name) for name in SHARED}
    except KernelError:
        shared = {}
    if not shared or not state.config:
        hint = "start the agent, or trace objects: --manifests PATH --node NAME"
        raise ConfigError(f"no datapath of this version is in place at {pins.maps}", hint=hint)
    config = layout.Config.unpack(bytes.fromhex(state.config))
    here = netns_cookie()
    if config.node_netns_cookie not in {0, here}:
        raise ConfigError(
            "the agent runs in another network namespace", hint="run trace in its own"
        )
    known, problems = _ask_names(arguments)
    names = {"nodes": known.nodes, "services": known.services, "pods": known.pods}
    local = frozenset(_own_addresses(shared["local_addresses"]))
    uplink = next((link for link in read_node(load_settings(None)[0]).uplinks), None)
    with open_programs(shared, uplink=uplink.index if uplink else 1) as programs:
        programs.configure(config)
        programs.take_affinities(pins.open_map("affinities"))
        yield Place(
            known.node, programs, local, names,
            lambda number, chosen: _explained(arguments, number, chosen), problems,
            frozenset(parse_address(a) for pod in known.packet_pods for a in known.pods[pod]),
        )  # fmt: skip


def _own_addresses(endpoints: Map) -> Iterator[Address]:
    for key, raw in endpoints.items():
        if layout.LocalAddress.unpack(raw).kind != LocalAddressKind.POD and not is_ipv6_link_local(
            Address(key)
        ):
            yield Address(key)


class _Names(msgspec.Struct):
    """Answer of the agent's API."""

    node: str = ""
    nodes: dict[str, list[str]] = msgspec.field(default_factory=dict)
    services: dict[str, list[str]] = msgspec.field(default_factory=dict)
    pods: dict[str, list[str]] = msgspec.field(default_factory=dict)
    packet_pods: list[str] = msgspec.field(default_factory=list)
    """Those whose sockets are left alone."""


def _ask_names(arguments: argparse.Namespace) -> tuple[_Names, list[str]]:
    try:
        _, body = get(arguments.run_directory / "agent.sock", "/names")
    except NotRunning as error:
        return _Names(), [f"{error}; names and endpoints that were left out are not known"]
    return msgspec.json.decode(body, type=_Names), []


def _explained(arguments: argparse.Namespace, number: int, chosen: BackendList) -> Explained | None:
    path = f"/explain/{number}/{int(chosen)}"
    try:
        status, body = get(arguments.run_directory / "agent.sock", path)
    except NotRunning:
        return None
    return msgspec.json.decode(body, type=Explained) if status == 200 else None


@contextmanager
def offline_place(arguments: argparse.Namespace) -> Iterator[Place]:
    """Objects from manifests, on a node that need not exist."""
    settings, findings = load_settings(arguments.config)
    snapshot = ManifestSource(
        arguments.manifests, proxy_name=settings.services.proxy_name, every_pod=True
    ).read()
    name = arguments.node or next(iter(sorted(snapshot.nodes)), "")
    own = snapshot.nodes.get(name)
    if own is None:
        known = ", ".join(sorted(snapshot.nodes)) or "none"
        raise ConfigError(
            f"--node {name or '(none)'}: no such Node in {arguments.manifests}; known are {known}",
            hint=_first(snapshot.problems),
        )
    objects = objects_of(snapshot, name, own.addresses, settings, probe_features())
    cluster = Cluster(objects)
    notes = [str(found) for found in findings if found.level != "accepted"]
    with open_programs({}, sizes=_sizes(snapshot)) as programs:
        programs.configure(objects.config)
        cluster.write(programs.maps, programs.ifindex)
        problems = notes + [str(problem) for problem in cluster.problems]
        pods = {f"{pod.namespace}/{pod.name}": pod for pod in snapshot.pods.values()}
        texts = {name: [format_address(a) for a in pod.addresses] for name, pod in pods.items()}
        yield Place(
            name, programs, frozenset(own.addresses), {**snapshot.names(), "pods": texts},
            cluster.explain, problems, pod_nodes={name: pod.node for name, pod in pods.items()},
        )  # fmt: skip


def _sizes(snapshot: Snapshot) -> dict[str, int]:
    """Room for everything."""
    endpoints = sum(
        len(one.endpoints) * len(one.ports) for some in snapshot.slices.values() for one in some
    )
    return {"backends": 2 * endpoints + 1024, "slots": 4 * endpoints + 2048}
