# SPDX-License-Identifier: Apache-2.0
"""Finds out which nodes take part in DSR, and what arrives there, by datagrams between agents.

A node asks each other one at its first address of each family: plainly, with the option, and in packets of
several sizes. Each answer repeats the question's secret number and says whether the option was on it. A
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

ROUND_S: Final = 5.0
_MISSED: Final = 3
"""Rounds without an answer after which a node counts as gone."""
_SIZES: Final = (9000, 4000, 1500, 1492, 1472, 1450, 1400, 1350, 1280)
_QUESTION, _ANSWER = b"kubypass-dsr-1 ?", b"kubypass-dsr-1 !"
"""The number is the version of what both sides have to understand alike."""
NO_ANSWER: Final = "does not answer at UDP port {port}: no kubypass, another version, or a firewall"
NO_OPTION: Final = "the option does not arrive there"


@dataclass
class _Peer:
    """What a node has answered, in this round and in all."""

    alive: int = _MISSED
    """Rounds since the last answer, and since the last with the option."""
    option: int = _MISSED
    sizes: set[int] = field(default_factory=set)
    mtu: int = 0


class DsrProbe:
    """Asks and answers, until it is closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._peers: dict[Address, _Peer] = {}
        self._asked: dict[bytes, tuple[Address, int]] = {}
        """Secret numbers of this round's questions -> node and size; 0: the plain one, 1: the one with the option."""
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
        for with_option in (False, True):
            try:
                asking = open_socket(own, version, with_option=with_option)
            except OSError as error:
                self.trouble = f"probes of DSR cannot be sent: {error.strerror or error}"
                return
            self._sockets[asking] = version
            for target in targets:
                for size in (1,) if with_option else (0, *_SIZES):
                    self._send(asking, target, size)

    def _send(self, asking: socket.socket, target: Address, size: int) -> None:
        number = secrets.token_bytes(8)
        self._asked[number] = (target, size)
        data = _QUESTION + number
        if size > 1:
            data = data.ljust(size - HEADER_BYTES[family(target)], b"\0")
        try:
            asking.sendto(data, (format_address(target), self._port))
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
            target, size = self._asked[number]
            if target == sender:
                self._note(self._peers[target], size, with_option=found.data[length + 8 :] == b"1")

    @staticmethod
    def _note(peer: _Peer, size: int, *, with_option: bool) -> None:
        if size == 0:
            peer.alive = -1
        elif size > 1:
            peer.sizes.add(size)
        elif with_option:
            peer.option = -1

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
            peer.option += 1
            if peer.sizes:
                peer.mtu = max(peer.sizes)
            peer.sizes = set()
            found[target] = self._path(peer)
        self.paths = found

    def _path(self, peer: _Peer) -> DsrPath:
        if peer.alive >= _MISSED:
            return DsrPath(why=NO_ANSWER.format(port=self._port))
        if peer.option >= _MISSED:
            return DsrPath(why=NO_OPTION)
        return DsrPath(DsrDispatch.OPTION, peer.mtu)
