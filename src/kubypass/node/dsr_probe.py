# SPDX-License-Identifier: Apache-2.0
"""Finds out which nodes take part in DSR, and what arrives there, by datagrams between agents.

A node asks each other one at its first address of each family: plainly, with the option, in Geneve, and in packets
of several sizes. Each answer repeats the question's secret number and says whether the option was on it. A
node that does not answer has no kubypass, another version, or something on the way that drops it: it gets no DSR.

One thread asks and answers. It owns its sockets; everybody else reads `paths` and sets `targets`.
"""

from __future__ import annotations

import secrets
import select
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from kubypass.model.address import Address, Family, family, format_address, parse_address
from kubypass.model.dsr import DsrPath
from kubypass.model.verdict import DsrDispatch
from kubypass.node.dsr_socket import HEADER_BYTES, open_socket, receive
from kubypass.node.dsr_tunnel import GENEVE_PORT, in_geneve

ROUND_S: Final = 5.0
_MISSED: Final = 3
"""Rounds without an answer after which a node counts as gone."""
_SIZES: Final = (9000, 4000, 1500, 1492, 1472, 1450, 1400, 1350, 1280)
_QUESTION, _ANSWER = b"kubypass-dsr-1 ?", b"kubypass-dsr-1 !"
"""The number is the version of what both sides have to understand alike."""
NO_ANSWER: Final = "does not answer at UDP port {port}: no kubypass, another version, or a firewall"
NOT_THERE: Final = {
    DsrDispatch.OPTION: "the option does not arrive there",
    DsrDispatch.GENEVE: f"Geneve (UDP port {GENEVE_PORT}) does not arrive there, or is not set there",
}
NO_ROOM: Final = "Geneve does not fit: the path takes {mtu} bytes, and {least} are needed"
_LEAST_MTU: Final[dict[tuple[DsrDispatch, Family], int]] = {
    (DsrDispatch.GENEVE, 4): 576 + 62,
    (DsrDispatch.GENEVE, 6): 1280 + 94,
}
"""No client can be asked for packets that are shorter than what every host sends, with the headers of the tunnel."""
_PLAIN, _WITH_OPTION, _IN_GENEVE = 0, 1, 2
"""The kinds of questions; larger numbers are sizes of plain ones."""


@dataclass
class _Peer:
    """What a node has answered, in this round and in all."""

    alive: int = _MISSED
    """Rounds since the last answer."""
    missed: dict[DsrDispatch, int] = field(
        default_factory=lambda: dict.fromkeys(NOT_THERE, _MISSED)
    )
    """Rounds since the last one to a question that came in this way."""
    sizes: set[int] = field(default_factory=set)
    mtu: int = 0


class DsrProbe:
    """Asks and answers, until it is closed."""

    def __init__(self, port: int, dispatches: tuple[DsrDispatch, ...]) -> None:
        """The probe asks in these ways; the first that arrives is used."""
        self._port, self._dispatches = port, dispatches
        self._peers: dict[Address, _Peer] = {}
        self._asked: dict[bytes, tuple[Address, int]] = {}
        """Secret numbers of this round's questions -> node, and kind or size."""
        self._sockets: dict[socket.socket, Family] = {}
        self._own: tuple[Address, ...] = ()
        self._listening: dict[Family, socket.socket] = {}
        self._stopped = threading.Event()
        self.targets: tuple[Address, ...] = ()
        """The nodes to ask, and from which questions are answered; another tuple replaces it."""
        self.own: tuple[Address, ...] = ()
        """The addresses of this node to ask from; another tuple replaces it."""
        self.paths: Mapping[Address, DsrPath] = {}
        """What is known; another mapping replaces it."""
        self.trouble = ""
        """Why no questions can be answered."""
        self._thread = threading.Thread(target=self._work, name="dsr", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread and closes its sockets."""
        self._stopped.set()
        self._thread.join(2 * ROUND_S)

    def _work(self) -> None:
        while not self._stopped.is_set():
            self._open()
            self._ask()
            self._listen(time.monotonic() + ROUND_S)
            self._conclude()
        self._close()

    def _open(self) -> None:
        """Listens at the addresses that the node has now."""
        if self._own == self.own and not self.trouble:
            return
        self._close()
        self._own, self.trouble = self.own, ""
        for address in self._own:
            version = family(address)
            try:
                listening = open_socket(address, version, self._port)
            except OSError as error:
                text = f"{format_address(address)} UDP port {self._port}: {error.strerror or error}"
                self.trouble = f"probes of DSR cannot be answered at {text}"
                continue
            self._listening[version] = listening
            self._sockets[listening] = version

    def _close(self) -> None:
        for opened in self._sockets:
            opened.close()
        self._sockets.clear()
        self._listening.clear()

    def _ask(self) -> None:
        self._asked.clear()
        for address in self.targets:
            self._peers.setdefault(address, _Peer())
        for address in self._own:
            version = family(address)
            there = [target for target in self.targets if family(target) == version]
            if version in self._listening and there:
                self._ask_from(address, version, there)

    def _ask_from(self, own: Address, version: Family, targets: Iterable[Address]) -> None:
        kinds = [_PLAIN, *_SIZES]
        if DsrDispatch.GENEVE in self._dispatches:
            kinds.append(_IN_GENEVE)
        for with_option in (False, True):
            if with_option and DsrDispatch.OPTION not in self._dispatches:
                continue
            try:
                asking = open_socket(own, version, with_option=with_option)
            except OSError as error:
                self.trouble = f"probes of DSR cannot be sent: {error.strerror or error}"
                return
            self._sockets[asking] = version
            for target in targets:
                for kind in (_WITH_OPTION,) if with_option else kinds:
                    self._send(asking, own, target, kind)

    def _send(self, asking: socket.socket, own: Address, target: Address, kind: int) -> None:
        number = secrets.token_bytes(8)
        self._asked[number] = (target, kind)
        data, port = _QUESTION + number, self._port
        if kind == _IN_GENEVE:
            data = in_geneve(data, (own, asking.getsockname()[1]), (target, port))
            port = GENEVE_PORT
        elif kind > _IN_GENEVE:
            data = data.ljust(kind - HEADER_BYTES[family(target)], b"\0")
        try:
            asking.sendto(data, (format_address(target), port))
        except OSError:  # no route, or longer than the device takes: it is not answered
            del self._asked[number]

    def _listen(self, until: float) -> None:
        while not self._stopped.is_set() and (left := until - time.monotonic()) > 0:
            for readable in select.select(list(self._sockets), (), (), min(left, 0.5))[0]:
                self._take(readable, self._sockets[readable])

    def _take(self, readable: socket.socket, version: Family) -> None:
        found = receive(readable, version)
        if found is None:
            return
        sender, length = parse_address(found.sender), len(_QUESTION)
        number = found.data[length : length + 8]
        if found.data.startswith(_QUESTION) and sender in self.targets and len(number) == 8:
            word = b"1" if found.with_option else b"0"
            try:
                readable.sendto(_ANSWER + number + word, (found.sender, found.port))
            except OSError:
                return
        elif found.data.startswith(_ANSWER) and number in self._asked:
            target, kind = self._asked[number]
            if target == sender:
                self._note(self._peers[target], kind, with_option=found.data[length + 8 :] == b"1")

    @staticmethod
    def _note(peer: _Peer, kind: int, *, with_option: bool) -> None:
        if kind == _PLAIN:
            peer.alive = -1
        elif kind == _IN_GENEVE:
            peer.missed[DsrDispatch.GENEVE] = -1
        elif kind > _IN_GENEVE:
            peer.sizes.add(kind)
        elif with_option:
            peer.missed[DsrDispatch.OPTION] = -1

    def _conclude(self) -> None:
        """Counts the round, and says what is known by now."""
        for asking in [one for one in self._sockets if one not in self._listening.values()]:
            asking.close()
            del self._sockets[asking]
        found: dict[Address, DsrPath] = {}
        for target in list(self._peers):
            if target not in self.targets:
                del self._peers[target]
                continue
            peer = self._peers[target]
            peer.alive += 1
            peer.missed = {way: rounds + 1 for way, rounds in peer.missed.items()}
            if peer.sizes:
                peer.mtu = max(peer.sizes)
            peer.sizes = set()
            found[target] = self._path(peer, family(target))
        self.paths = found

    def _path(self, peer: _Peer, version: Family) -> DsrPath:
        if peer.alive >= _MISSED:
            return DsrPath(why=NO_ANSWER.format(port=self._port))
        reasons = []
        for dispatch in self._dispatches:
            least = _LEAST_MTU.get((dispatch, version), 0)
            if peer.missed[dispatch] < _MISSED and peer.mtu >= least:
                return DsrPath(dispatch, peer.mtu)
            reasons.append(
                NOT_THERE[dispatch]
                if peer.missed[dispatch] >= _MISSED
                else NO_ROOM.format(mtu=peer.mtu or "less than 1280", least=least)
            )
        return DsrPath(why="; ".join(reasons))
