# SPDX-License-Identifier: Apache-2.0
"""Pure: the Maglev table of a list of backends, which is a function of its backends and its seed, and of nothing else.

The cells of a table name backends, each as often as its weight says. A new connection's hash selects a cell, so every
node with the same table selects the same backend. If a backend goes, few other cells may change. Maglev (Eisenbud and
others, NSDI 2016, section 3.4) lets backends take cells in turn, each in an order of its own. A cell that becomes free
is then taken earlier by another backend, which frees a third one's cell, and so on: of the other 99 backends' cells in
a table of 16381, 1.35 percent move. Here it is 0.9 percent, since most cells are given away without turns:

1. Darts. Each backend throws darts at cells, all together four for each cell. A cell belongs to the first dart that
   hits it. If a backend goes, only its own cells change.
2. Shares. A backend that has hit more cells than its share gives the last of them back.
3. Turns. Backends that have fewer take the cells that are left, as in Maglev.

A table is made in some milliseconds: docs/adr/0013-maglev.md has the figures.
"""

from __future__ import annotations

from array import array
from collections import Counter
from functools import lru_cache
from hashlib import blake2b, shake_128
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kubypass.model.maglev import Maglev
    from kubypass.model.protocol import Protocol
    from kubypass.plan.items import PlannedBackend

_DARTS: Final = 4
"""Darts for each cell. With fewer, more cells are taken by turns; with more, no fewer cells move."""
_FEW: Final = 100
"""With so few cells left, going over them is faster than going over a backend's order."""
_SHORT: Final = 1024
"""With so few darts, a backend is one of many, and is kept for the next table with it."""
MAX_BACKENDS: Final = 2**16 - 1
"""A cell has 16 bits."""
_ORDER_BYTES: Final = 8
_ADDRESS_BYTES, _PORT_BYTES = 16, 2


def table_of(
    maglev: Maglev, protocol: Protocol, backends: Sequence[PlannedBackend]
) -> tuple[int, ...]:
    """Returns the positions in `backends` by cell. There must be at least one backend, and at most MAX_BACKENDS."""
    players = [
        (_kept_player if darts <= _SHORT else _player)(maglev, _name(protocol, backend), darts)
        for backend, darts in zip(backends, _darts(maglev.cells, backends), strict=True)
    ]
    cells = _throw(maglev.cells, players, [backend.weight for backend in backends])
    missing = _give_back(cells, _shares(maglev.cells, backends))
    _take_turns(cells, players, missing)
    return tuple(cells)


def table_id(maglev: Maglev, protocol: Protocol, lists: Sequence[Sequence[PlannedBackend]]) -> int:
    """Returns a number that tells the tables of these lists from all others: 64 bits, not 0."""
    digest = blake2b(maglev.seed + maglev.cells.to_bytes(4, "big"), digest_size=8)
    for backends in lists:
        digest.update(len(backends).to_bytes(4, "big"))
        for backend in backends:
            digest.update(_name(protocol, backend) + backend.weight.to_bytes(4, "big"))
    return int.from_bytes(digest.digest(), "big") or 1


def _name(protocol: Protocol, backend: PlannedBackend) -> bytes:
    port = backend.port.to_bytes(_PORT_BYTES, "big")
    return bytes(backend.address) + port + bytes([protocol])


class _Player(NamedTuple):
    """The darts of one backend, and the order in which it takes cells: from `first` on, each `step` cells further."""

    first: int
    step: int
    turns: int
    """How many steps lead to the next cell."""
    darts: Sequence[int]
    """The cells that they hit, the last dart first."""


def _player(maglev: Maglev, name: bytes, darts: int) -> _Player:
    size = maglev.cells
    width = 2 if size < 2**16 else 4
    stream = shake_128(maglev.seed + name).digest(_ORDER_BYTES + width * darts)
    half = _ORDER_BYTES // 2
    first = int.from_bytes(stream[:half], "big") % size
    step = int.from_bytes(stream[half:_ORDER_BYTES], "big") % (size - 1) + 1
    # The mask keeps as many bits of each dart as a cell has: primes of the setting are just below powers of two.
    mask = ((1 << size.bit_length()) - 1).to_bytes(width, "little") * darts
    hits = int.from_bytes(stream[_ORDER_BYTES:], "little") & int.from_bytes(mask, "little")
    thrown = array("H" if width == 2 else "I", hits.to_bytes(width * darts, "little"))
    return _Player(first, step, pow(step, -1, size), thrown[::-1])


@lru_cache(1024)
def _kept_player(maglev: Maglev, name: bytes, darts: int) -> _Player:
    """A player that is there once: a change concerns one of many backends. 8 KB at most, as numbers are shared."""
    player = _player(maglev, name, darts)
    return player._replace(darts=tuple(map(_numbers(maglev.cells).__getitem__, player.darts)))


@lru_cache(1)
def _numbers(size: int) -> Sequence[int]:
    return tuple(range(1 << size.bit_length()))


def _darts(cells: int, backends: Sequence[PlannedBackend]) -> Iterator[int]:
    total = sum(backend.weight for backend in backends)
    for backend in backends:
        yield _DARTS * cells * backend.weight // total + 1


def _throw(size: int, players: Sequence[_Player], weights: Sequence[int]) -> list[int]:
    """Who has hit which cell first, by cell; nobody is the number of players. The last darts come first here."""
    cells = [len(players)] * (1 << size.bit_length())
    darts: Iterable[int]
    if len(set(weights)) == 1:
        rounds = zip(*[player.darts for player in reversed(players)], strict=True)
        darts = chain.from_iterable(rounds)
        order = list(range(len(players) - 1, -1, -1)) * len(players[0].darts)
    else:
        order, darts = _in_time(players, weights)
    for cell, who in zip(darts, order, strict=True):
        cells[cell] = who
    return cells[:size]


def _in_time(players: Sequence[_Player], weights: Sequence[int]) -> tuple[list[int], list[int]]:
    """Who throws and which cells are hit, from the last dart on; at one moment, the later players' first."""
    moments: list[float] = []
    throwers: list[int] = []
    darts: list[int] = []
    of_weight: dict[int, list[float]] = {}
    for who in range(len(players) - 1, -1, -1):
        weight, count = weights[who], len(players[who].darts)
        if weight not in of_weight:
            of_weight[weight] = [number / weight for number in range(count, 0, -1)]
        moments += of_weight[weight]
        throwers += [who] * count
        darts += players[who].darts
    order = sorted(range(len(moments)), key=moments.__getitem__, reverse=True)  # and stable
    return [throwers[at] for at in order], [darts[at] for at in order]


def _shares(size: int, backends: Sequence[PlannedBackend]) -> list[int]:
    """The cells of each backend: one, and of the others as many as its weight says. The largest fractions round up."""
    count = len(backends)
    if count >= size:
        return [1] * size + [0] * (count - size)
    total = sum(backend.weight for backend in backends)
    parts = [divmod((size - count) * backend.weight, total) for backend in backends]
    left = size - count - sum(whole for whole, _ in parts)
    rounded_up = set(sorted(range(count), key=lambda who: -parts[who][1])[:left])
    return [1 + whole + (who in rounded_up) for who, (whole, _) in enumerate(parts)]


def _give_back(cells: list[int], shares: Sequence[int]) -> list[int]:
    """Frees what a backend has above its share; returns how many cells each one misses."""
    nobody = len(shares)
    counts = Counter(cells)
    missing = [share - counts[who] for who, share in enumerate(shares)]
    above = -sum(number for number in missing if number < 0)
    cell = len(cells)
    while above:
        cell -= 1
        who = cells[cell]
        if who != nobody and missing[who] < 0:
            cells[cell] = nobody
            missing[who] += 1
            above -= 1
    return missing


def _take_turns(cells: list[int], players: Sequence[_Player], missing: list[int]) -> None:
    """Gives the free cells to the backends that miss some, one at a turn."""
    nobody, size = len(players), len(cells)
    left = sum(missing)
    places = [player.first for player in players]
    while left > _FEW:
        for who, player in enumerate(players):
            if not missing[who]:
                continue
            at, step = places[who], player.step
            while cells[at] != nobody:
                at += step
                if at >= size:
                    at -= size
            cells[at] = who
            places[who] = at
            missing[who] -= 1
            left -= 1
    free = {cell for cell, who in enumerate(cells) if who == nobody}
    while free:
        for who, player in enumerate(players):
            if missing[who]:
                at, turns = places[who], player.turns
                steps = min([(cell - at) * turns % size for cell in free])
                places[who] = at = (at + steps * player.step) % size
                free.remove(at)
                cells[at] = who
                missing[who] -= 1
