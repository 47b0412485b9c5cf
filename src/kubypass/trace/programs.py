# SPDX-License-Identifier: Apache-2.0
"""Loads the real programs once more, for packets and socket calls that nobody else sees.

The programs write to maps of their own, and their constants are in a map, so that one load serves all settings.
Packets go through by test run (BPF_PROG_TEST_RUN). Socket calls are real, in a cgroup and in network namespaces that
only this process uses.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from kubypass.datapath import layout
from kubypass.datapath.counters import read_counts
from kubypass.datapath.loader import load_programs
from kubypass.datapath.sizes import FLOW_MAPS, PASSAGES, is_note, map_sizes
from kubypass.errors import KernelError, VerifierError
from kubypass.kernel import cgroup, netns
from kubypass.kernel.attach.cgroup import cgroup_hooks
from kubypass.kernel.attach.link import Link
from kubypass.kernel.bpf import Map
from kubypass.kernel.libbpf import ObjectFile
from kubypass.kernel.netlink import Netlink
from kubypass.kernel.program import Program, TestRun, packet_context, packet_mark
from kubypass.model.address import Address, AddressPort, format_address, is_ipv4
from kubypass.model.constants import MARK_TRACED, NETNS_UNKNOWN
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import Hook, LocalAddressKind, Verdict
from kubypass.settings.settings import Settings
from kubypass.trace.packets import Flow
from kubypass.trace.scratch_network import make_uplink

SHARED = (
    "services",
    "slots",
    "maglev",
    "backends",
    "local_addresses",
    "node_addresses",
    "source_ranges",
    "pod_devices",
    "foreign_sources",
    "inside",
    "uplinks",
    "xdp_devices",
)
"""Maps that the programs only read. A live agent's maps can stand in for them."""
_OBJECTS = ("socket", "pod", "host")
_ARRAY = 2
_IP_FREEBIND = 15
_SIZES = {
    **map_sizes(Settings()),
    **dict.fromkeys((*FLOW_MAPS, "socket_peers"), 1024),
    "passages": PASSAGES,
}
"""The settings' defaults; a trace has few connections of its own."""
_HOOKS = {hook.name.lower(): hook for hook in Hook}
"""By the programs' names; all others are of sockets."""
_FIRST_CPU_KEY = bytes(4)
_NO_MAC = bytes(6)
_LEAVES_BY = {Verdict.TO_POD: "to_pod", Verdict.TO_NETWORK: "to_uplink"}
"""The program that sees a packet last which the node's stack forwards."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one program did with a packet or a socket call."""

    program: str
    hook: Hook
    verdict: Verdict
    decision: layout.DecisionRecord | None
    """None where the program found no service."""
    packet: bytes = b""
    """The packet as the program left it; empty for a socket call."""
    seen: bytes = b""
    """With legacy host routing, the packet as the node's stack sees it on its way; empty where it does not."""


class Programs:
    """The loaded programs with their maps; `open_programs` makes one.

    With their constants in a map, the verifier checks the code of every feature. Where the kernel lacks one of them,
    that load fails, and the programs are loaded again for each configuration.
    """

    def __init__(
        self, shared: Mapping[str, Map], sizes: Mapping[str, int], say: Callable[[str], None]
    ) -> None:
        self.maps = dict(shared)
        self._say = say
        self._sizes = {**_SIZES, **sizes}
        self._constants: list[tuple[Map, bytes]] = []
        self._config: layout.Config | None = None
        self.constants: layout.Config
        """What `configure` has set."""
        self._programs: dict[str, Program] = {}
        self._links: dict[str, Link] = {}
        self._directory = Path()
        self._node_netns_fd, self._pod_netns_fd = -1, -1
        self._node_cookie = 0
        self._affinities: list[tuple[bytes, bytes, int]] = []
        self._counts: dict[Hook, dict[Verdict, int]] = {}
        """What each hook had counted after its last run: nobody else counts in these maps."""
        self.ifindex, self._mac = 1, bytes(6)
        self.scratch_network = False
        """Whether devices and routes were made for the trace: they say nothing about a real node."""
        with suppress(VerifierError):
            self._load(None)

    def _load(self, fixed: layout.Config | None) -> None:
        constants: list[tuple[Map, bytes]] = []
        numbers = iter(range(1, len(_OBJECTS) + 1))

        def set_constants(opened: ObjectFile) -> None:
            number = next(numbers)
            self._say(
                f"loading programs for this trace only, {number} of {len(_OBJECTS)}: {_OBJECTS[number - 1]}.bpf.o"
            )
            if fixed is None:
                constants.append(_use_map_for_constants(opened))
            else:
                opened.set_rodata(fixed.pack())

        self._programs = load_programs(_OBJECTS, self.maps, self._sizes, set_constants)
        self._constants, self._config = constants, fixed

    def attach(self, directory: Path) -> None:
        """Attaches the socket programs to a cgroup. Programs that are loaded later are attached to it too."""
        self._directory = directory
        with cgroup_hooks(directory) as hooks:
            for name, hook in hooks.items():
                if name in self._programs:
                    self._links[name] = hook.attach(self._programs[name])

    def detach(self) -> None:
        """Detaches the socket programs."""
        self._links.clear()

    def use_network(self, node_netns_fd: int, pod_netns_fd: int, ifindex: int) -> None:
        """Sets the namespaces for socket calls of the node and of pods, and the device that packets arrive on."""
        self._node_netns_fd, self._pod_netns_fd = node_netns_fd, pod_netns_fd
        self.ifindex = ifindex
        with Netlink() as netlink:
            macs = [link.mac for link in netlink.links() if link.index == ifindex]
        self._mac = macs[0] if macs and len(macs[0]) == len(self._mac) else bytes(len(self._mac))
        with netns.inside(node_netns_fd):
            self._node_cookie = netns.netns_cookie()

    def configure(self, config: layout.Config) -> None:
        """Sets the programs' constants."""
        ours = config._replace(tracing=1, node_netns_cookie=self._node_cookie)
        self.constants = ours
        for target, rest in self._constants:
            target.update(_FIRST_CPU_KEY, ours.pack() + rest)
        if not self._constants and ours != self._config:
            self._load(ours)
            self.detach()
            self.attach(self._directory)

    def send(
        self, program: str, packet: bytes, *, pod: Address | None = None, segment_bytes: int = 0
    ) -> Outcome:
        """Runs a tc program on a packet, in the current network namespace; `pod` is one whose device it comes by.

        It is sent to the uplink's MAC address: programs leave frames for other hosts alone. `segment_bytes` is the
        packet's GSO size, where it holds several segments.
        """
        ifindex = self.device_of(pod) if pod else self.ifindex
        context = packet_context(ifindex, segment_bytes=segment_bytes)
        size = len(self._mac)
        with self._observed(program) as seen:
            run = self._programs[program].test_run(self._mac + packet[size:], context=context)
        seen_by_stack, run = self._leave(run, seen[0].verdict, ifindex)
        # A packet that stays as it is keeps the MAC address that it came with.
        kept = packet[:size] if run.data.startswith(self._mac) else run.data[:size]
        return replace(seen[0], packet=kept + run.data[size:], seen=seen_by_stack)

    def _leave(self, run: TestRun, verdict: Verdict, ifindex: int) -> tuple[bytes, TestRun]:
        """What the stack sees of a packet that it forwards, and the packet once it has left by another device."""
        mark = packet_mark(run.context)
        if verdict not in _LEAVES_BY or not is_note(mark):
            return b"", run
        context = packet_context(ifindex, mark=mark)
        return run.data, self._programs[_LEAVES_BY[verdict]].test_run(run.data, context=context)

    def connect(self, flow: Flow, *, of_node: bool) -> Outcome:
        """Connects a socket from the flow's source to its destination. Nothing answers, and nothing leaves."""
        version = socket.AF_INET if is_ipv4(flow.source) else socket.AF_INET6
        kind = socket.SOCK_STREAM if flow.protocol == Protocol.TCP else socket.SOCK_DGRAM
        with netns.inside(self._node_netns_fd if of_node else self._pod_netns_fd):
            opened = socket.socket(version, kind | socket.SOCK_NONBLOCK)
        name = "connect4" if version == socket.AF_INET else "connect6"
        with opened, self._observed(name) as seen:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK_TRACED)
            opened.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            opened.bind((format_address(flow.source), 0))
            opened.connect_ex((format_address(flow.destination), flow.destination_port))
        return seen[0]

    @contextmanager
    def _observed(self, program: str) -> Iterator[list[Outcome]]:
        """Collects the outcome of the one program that the block runs."""
        hook = _HOOKS.get(program, Hook.SOCKET)
        before = self._counts.get(hook, {})
        empty = bytes(layout.DECISION_RECORD_SIZE)
        self.maps["decisions"].update(_FIRST_CPU_KEY, empty)
        seen: list[Outcome] = []
        yield seen
        now = {c.verdict: c.packets for c in read_counts(self.maps["metrics"], [hook])}
        self._counts[hook] = now
        changed = [verdict for verdict in now if now[verdict] != before.get(verdict, 0)]
        if not changed:
            raise KernelError("run", f"program {program}", 0, "it counted nothing")
        raw = self.maps["decisions"].lookup(_FIRST_CPU_KEY) or empty
        decision = layout.DecisionRecord.unpack(raw)
        seen.append(Outcome(program, hook, changed[0], decision if decision.found else None))

    def device_of(self, pod: Address) -> int:
        """The index of the device of the pod with this address. Among given objects, any address may be a pod's."""
        raw = self.maps["local_addresses"].lookup(pod)
        if raw is None and self.scratch_network:
            entry = layout.LocalAddress(
                self.ifindex, _NO_MAC, _NO_MAC, LocalAddressKind.POD, NETNS_UNKNOWN
            )
            raw = entry.pack()
            self.maps["local_addresses"].update(pod, raw)
        found = layout.LocalAddress.unpack(raw).ifindex if raw else 0
        return found or self.ifindex

    def addresses_of(self, pod: Address) -> tuple[Address, ...]:
        """All addresses of the pod with this address; none where no pod of this node has it."""
        items = [
            (k, layout.LocalAddress.unpack(v)) for k, v in self.maps["local_addresses"].items()
        ]
        devices = {found.ifindex for key, found in items if key == pod and found.ifindex}
        return tuple(sorted(Address(key) for key, found in items if found.ifindex in devices))

    def backend_of(self, number: int) -> AddressPort:
        """The address and port of the backend with this identifier."""
        raw = self.maps["backends"].lookup(struct.pack("<I", number))
        found = layout.Backend.unpack(raw or bytes(layout.BACKEND_SIZE))
        return Address(found.address), found.port

    def exclude_pod_sockets(self) -> None:
        """Takes the traced pod out of socket load balancing."""
        with netns.inside(self._pod_netns_fd):
            cookie = netns.netns_cookie()
        self.maps["socket_lb_off"].update(struct.pack("=Q", cookie), struct.pack("=I", 1))

    def forget(self) -> None:
        """Forgets the connections and affinities of earlier packets, so that the next packet is the first one."""
        for name in (*FLOW_MAPS, "affinities", "socket_peers"):
            keys = [key for key, _ in self.maps[name].items()]
            self.maps[name].delete_batch(b"".join(keys), len(keys))
        for keys_, values, count in self._affinities:
            self.maps["affinities"].update_batch(keys_, values, count)

    def take_affinities(self, live: Map) -> None:
        """Copies a live agent's affinities, so that clients keep their backends."""
        self._affinities = list(live.chunks())


@contextmanager
def open_programs(
    shared: Mapping[str, Map],
    *,
    uplink: int | None = None,
    sizes: Mapping[str, int] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Programs]:
    """Loads the programs and makes a cgroup and network namespaces for the block.

    `shared` are maps of a live agent, if any. `uplink` is a device of the current network namespace; None makes a
    scratch network and enters its namespace for the block. `say` is told what is being loaded.
    """
    with ExitStack() as stack:
        programs = Programs(shared, sizes or {}, say)
        programs.attach(stack.enter_context(cgroup.scratch("kubypass-trace")))
        stack.callback(programs.detach)
        node_netns_fd, pod_netns_fd = netns.create(), netns.create()
        for fd in (node_netns_fd, pod_netns_fd):
            stack.callback(os.close, fd)
        if uplink is None:
            stack.enter_context(netns.inside(node_netns_fd))
            uplink = make_uplink(node_netns_fd)
            programs.scratch_network = True
        programs.use_network(node_netns_fd, pod_netns_fd, uplink)
        yield programs


def _use_map_for_constants(opened: ObjectFile) -> tuple[Map, bytes]:
    """Returns the map, and the bytes that the compiler put behind the constants."""
    raw = opened.rodata()
    target = Map.create(_ARRAY, 4, len(raw), 1, "constants")
    target.update(_FIRST_CPU_KEY, raw)
    opened.use_rodata(target.fd)
    return target, raw[layout.CONFIG_SIZE :]
