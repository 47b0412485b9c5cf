# SPDX-License-Identifier: Apache-2.0
"""The node that we are on, with the maps that its agent pinned. The maps are only read.

The agent's API gives names and explanations; without a running agent, the maps are traced all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from kubypass.api.client import NotRunning, get
from kubypass.datapath import layout
from kubypass.datapath.pins import Pins
from kubypass.errors import ConfigError, KernelError
from kubypass.kernel.bpf import Map
from kubypass.kernel.netns import netns_cookie
from kubypass.model.address import Address, is_ipv6_link_local, parse_address
from kubypass.model.verdict import BackendList, LocalAddressKind
from kubypass.node.attached_programs import read_attached
from kubypass.node.facts import read_node
from kubypass.plan.explain import PortExplanation
from kubypass.settings.files import load_settings
from kubypass.trace.programs import SHARED, open_programs
from kubypass.trace.traced_node import TracedNode

_LOOPBACK_INDEX = 1


class _Names(msgspec.Struct):
    """What the agent's API answers to `/names`."""

    node: str = ""
    nodes: dict[str, list[str]] = msgspec.field(default_factory=dict)
    services: dict[str, list[str]] = msgspec.field(default_factory=dict)
    pods: dict[str, list[str]] = msgspec.field(default_factory=dict)
    packet_pods: list[str] = msgspec.field(default_factory=list)
    """Pods that have no socket load balancing."""


@contextmanager
def live_node(
    run_directory: Path, bpffs: Path, say: Callable[[str], None] = lambda _: None
) -> Iterator[TracedNode]:
    """Opens this node's maps for the block; ConfigError where no agent has set up a datapath of this version."""
    pins = Pins(bpffs)
    shared, config = _open_datapath(pins, run_directory)
    socket_path = run_directory / "agent.sock"
    known, problems = _ask_names(socket_path)
    names = {"nodes": known.nodes, "services": known.services, "pods": known.pods}
    local = frozenset(_node_addresses(shared["local_addresses"]))
    uplink = next((link for link in read_node(load_settings(None)[0]).uplinks), None)
    device = uplink.index if uplink else _LOOPBACK_INDEX
    with open_programs(shared, uplink=device, say=say) as programs:
        programs.configure(config)
        programs.take_affinities(pins.open_map("affinities"))
        yield TracedNode(
            known.node, programs, local, names,
            lambda number, chosen: _ask_explanation(socket_path, number, chosen), problems,
            frozenset(parse_address(a) for pod in known.packet_pods for a in known.pods[pod]),
        )  # fmt: skip


def _open_datapath(pins: Pins, run_directory: Path) -> tuple[dict[str, Map], layout.Config]:
    """The pinned maps that a trace shares, and the constants that the agent's programs have."""
    attached = read_attached(run_directory)
    try:
        shared = {name: pins.open_map(name) for name in SHARED}
    except KernelError:
        shared = {}
    if not shared or not attached.config:
        hint = "start the agent, or trace objects: --manifests PATH --node NAME"
        raise ConfigError(f"no datapath of this version is in place at {pins.maps}", hint=hint)
    config = layout.Config.unpack(bytes.fromhex(attached.config))
    if config.node_netns_cookie not in {0, netns_cookie()}:
        raise ConfigError(
            "the agent runs in another network namespace", hint="run trace in its own"
        )
    return shared, config


def _node_addresses(local_addresses: Map) -> Iterator[Address]:
    """The node's own addresses: neither its pods' nor link-local ones."""
    for key, raw in local_addresses.items():
        address = Address(key)
        if layout.LocalAddress.unpack(raw).kind != LocalAddressKind.POD and not is_ipv6_link_local(
            address
        ):
            yield address


def _ask_names(socket_path: Path) -> tuple[_Names, list[str]]:
    try:
        _, body = get(socket_path, "/names")
    except NotRunning as error:
        return _Names(), [f"{error}; names and endpoints that were left out are not known"]
    return msgspec.json.decode(body, type=_Names), []


def _ask_explanation(socket_path: Path, number: int, chosen: BackendList) -> PortExplanation | None:
    """What the agent says of the service port with this identifier."""
    try:
        status, body = get(socket_path, f"/explain/{number}/{int(chosen)}")
    except NotRunning:
        return None
    return msgspec.json.decode(body, type=PortExplanation) if status == 200 else None
