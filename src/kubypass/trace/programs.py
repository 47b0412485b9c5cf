# SPDX-License-Identifier: Apache-2.0
"""The real programs, loaded once more, for packets and socket calls that nobody else sees.

They have every feature, their settings in a map that may be written, and maps of their own for all that they write.
Packets go through by test run; socket calls are real ones, in a cgroup and network namespaces that only this process is
in.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from kubypass.datapath import layout
from kubypass.datapath.counters import read_counts
from kubypass.datapath.loader import load_programs
from kubypass.errors import KernelError, VerifierError
from kubypass.kernel import cgroup, netns
from kubypass.kernel.attach.cgroup import cgroup_hooks
from kubypass.kernel.attach.link import Link
from kubypass.kernel.bpf import Map
from kubypass.kernel.libbpf import ObjectFile
from kubypass.kernel.program import Program
from kubypass.model.address import format_address, is_ipv4
from kubypass.model.constants import MARK_TRACED
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import Hook, Verdict
from kubypass.trace.packets import Flow

SHARED = ("services", "slots", "backends", "local_addresses", "source_ranges")
"""What programs only read: a live agent's maps may stand in for these."""
_OBJECTS = ("socket", "pod", "host")
_ARRAY = 2
_CONTEXT_BYTES, _IFINDEX_AT = 192, 40
_FREEBIND = 15  # IP_FREEBIND
_SIZES = {"services": 65536, "flows": 1024, "fragments": 1024, "socket_peers": 1024}
_FIRST_CPU_KEY = bytes(4)
_LINKS = """
link set lo up
link add uplink address 02:4b:50:00:00:02 type veth peer name far
link set uplink up
link set far up
neigh add 192.0.0.8 lladdr 02:4b:50:00:00:03 dev uplink nud permanent
neigh add fe80::8 lladdr 02:4b:50:00:00:03 dev uplink nud permanent
route add default via 192.0.0.8 dev uplink onlink
route add default via fe80::8 dev uplink
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one packet or socket call."""

    program: str
    hook: Hook
    verdict: Verdict
    decision: layout.DecisionRecord | None
    """None where no service was found."""
    packet: bytes = b""
    """As the program left it; nothing for socket calls."""
    error: int = 0
    """Of a socket call: errno."""


class Programs:
    """Use `open_programs`.

    Settings are in maps that may be written, so that one load serves all; the verifier then looks at every feature.
    Where the kernel lacks one, that cannot be: programs are loaded anew for other settings.
    """

    def __init__(self, shared: Mapping[str, Map], sizes: Mapping[str, int]) -> None:
        self.maps = dict(shared)
        self._sizes = {**_SIZES, **sizes}
        self._constants: list[tuple[Map, bytes]] = []
        self._config: layout.Config | None = None
        self._programs: dict[str, Program] = {}
        self._links: dict[str, Link] = {}
        self._directory = Path()
        self._node, self._pod = -1, -1
        self._node_cookie = 0
        self._affinities: list[tuple[bytes, bytes, int]] = []
        self.ifindex = 1
        self.scratch_network = False
        """Whether the devices and routes around are made for the trace, and mean nothing."""
        with suppress(VerifierError):
            self._load(None)

    def _load(self, fixed: layout.Config | None) -> None:
        constants: list[tuple[Map, bytes]] = []

        def set_constants(opened: ObjectFile) -> None:
            if fixed is None:
                constants.append(_use_map_for_constants(opened))
            else:
                opened.set_rodata(fixed.pack())

        self._programs = load_programs(_OBJECTS, self.maps, self._sizes, set_constants)
        self._constants, self._config = constants, fixed

    def attach(self, directory: Path) -> None:
        """The socket programs, on a cgroup; those that come later too."""
        self._directory = directory
        with cgroup_hooks(directory) as hooks:
            for name, hook in hooks.items():
                if name in self._programs:
                    self._links[name] = hook.attach(self._programs[name])

    def detach(self) -> None:
        """Takes them off again."""
        self._links.clear()

    def settle_in(self, node: int, pod: int, ifindex: int) -> None:
        """Where socket calls of the node and of pods are made, and the node's uplink."""
        self._node, self._pod, self.ifindex = node, pod, ifindex
        with netns.inside(node):
            self._node_cookie = netns.netns_cookie()

    def configure(self, config: layout.Config) -> None:
        """Settings from now on."""
        ours = config._replace(tracing=1, node_netns_cookie=self._node_cookie)
        for target, rest in self._constants:
            target.update(_FIRST_CPU_KEY, ours.pack() + rest)
        if not self._constants and ours != self._config:
            self._load(ours)
            self.detach()
            self.attach(self._directory)

    def send(self, program: str, packet: bytes) -> Outcome:
        """A packet through a tc program, in the network namespace that we are in."""
        context = bytearray(_CONTEXT_BYTES)
        struct.pack_into("=I", context, _IFINDEX_AT, self.ifindex)
        with self._observed(program) as seen:
            run = self._programs[program].test_run(packet, context=bytes(context))
        return replace(seen[0], packet=run.data)

    def connect(self, flow: Flow, *, of_node: bool) -> Outcome:
        """A socket bound to the flow's source dials its destination; nothing answers, nothing leaves."""
        version = socket.AF_INET if is_ipv4(flow.source) else socket.AF_INET6
        kind = socket.SOCK_STREAM if flow.protocol == Protocol.TCP else socket.SOCK_DGRAM
        with netns.inside(self._node if of_node else self._pod):
            opened = socket.socket(version, kind | socket.SOCK_NONBLOCK)
        name = "connect4" if version == socket.AF_INET else "connect6"
        with opened, self._observed(name) as seen:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK_TRACED)
            opened.setsockopt(socket.IPPROTO_IP, _FREEBIND, 1)
            opened.bind((format_address(flow.source), 0))
            error = opened.connect_ex((format_address(flow.destination), flow.destination_port))
        return replace(seen[0], error=error)

    @contextmanager
    def _observed(self, program: str) -> Iterator[list[Outcome]]:
        """What the programs note while the block runs."""
        before = {(c.hook, c.verdict): c.packets for c in read_counts(self.maps["metrics"])}
        empty = bytes(layout.DECISION_RECORD_SIZE)
        self.maps["decisions"].update(_FIRST_CPU_KEY, empty)
        seen: list[Outcome] = []
        yield seen
        changed = [
            (c.hook, c.verdict)
            for c in read_counts(self.maps["metrics"])
            if c.packets != before.get((c.hook, c.verdict), 0)
        ]
        if not changed:
            raise KernelError("run", f"program {program}", 0, "it counted nothing")
        raw = self.maps["decisions"].lookup(_FIRST_CPU_KEY) or empty
        decision = layout.DecisionRecord.unpack(raw)
        seen.append(Outcome(program, *changed[0], decision if decision.found else None))

    def leave_sockets_alone(self) -> None:
        """The pod that is traced has no socket load balancing."""
        with netns.inside(self._pod):
            cookie = netns.netns_cookie()
        self.maps["socket_lb_off"].update(struct.pack("=Q", cookie), struct.pack("=I", 1))

    def forget(self) -> None:
        """Connections and affinities of before: the next packet is the first one."""
        for name in ("flows", "affinities", "socket_peers"):
            keys = [key for key, _ in self.maps[name].items()]
            self.maps[name].delete_batch(b"".join(keys), len(keys))
        for keys_, values, count in self._affinities:
            self.maps["affinities"].update_batch(keys_, values, count)

    def take_affinities(self, live: Map) -> None:
        """Clients keep the backends that they have in a live agent's map."""
        self._affinities = list(live.chunks())


@contextmanager
def open_programs(
    shared: Mapping[str, Map], *, uplink: int | None = None, sizes: Mapping[str, int] | None = None
) -> Iterator[Programs]:
    """Everything that a trace needs, for the block.

    `shared` are maps of a live agent (or none); `uplink` is a device of the network namespace that we are in, None to
    make a namespace with one and to stay there for the block.
    """
    with ExitStack() as stack:
        programs = Programs(shared, sizes or {})
        programs.attach(stack.enter_context(cgroup.scratch("kubypass-trace")))
        stack.callback(programs.detach)
        places = [netns.create(), netns.create()]
        for fd in places:
            stack.callback(os.close, fd)
        if uplink is None:
            stack.enter_context(netns.inside(places[0]))
            uplink = _make_uplink()
            programs.scratch_network = True
        programs.settle_in(places[0], places[1], uplink)
        yield programs


def _use_map_for_constants(opened: ObjectFile) -> tuple[Map, bytes]:
    """The map, and what the compiler has put after the settings."""
    raw = opened.rodata()
    target = Map.create(_ARRAY, 4, len(raw), 1, "constants")
    target.update(_FIRST_CPU_KEY, raw)
    opened.use_rodata(target.fd)
    return target, raw[layout.CONFIG_SIZE :]


def _make_uplink() -> int:
    """A device that leads everywhere, in a namespace that leads nowhere.

    Returns the index of another one, by which packets come in: whether the network would send them back is not known.
    """
    with suppress(OSError):
        for path in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            with open(f"/proc/sys/net/{path}", "w") as file:
                file.write("1")
    done = subprocess.run(
        ["ip", "-batch", "-"], input=_LINKS, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise KernelError("make", "a scratch network", errno.EIO, done.stderr.strip())
    return socket.if_nametoindex("far")
