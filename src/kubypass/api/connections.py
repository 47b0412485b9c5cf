# SPDX-License-Identifier: Apache-2.0
"""All open connections, and which of them gives way to a new one.

A client that opens more than others loses its own: first those that have their answer, then the one that has waited
longest for its request. So whoever fills the server keeps nobody else from it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator

from kubypass.api.connection import Client, Connection, State
from kubypass.api.limits import Limits


class Connections:
    """The connections of each client, the first to give way first."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_client: dict[Client, OrderedDict[Connection, None]] = {}
        self._count = 0
        self.ended: Counter[str] = Counter()
        """Connections that did not end by themselves, by reason: `limit`, `deadline`."""

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Connection]:
        for own in list(self._by_client.values()):
            yield from list(own)

    def room_for(self, client: Client) -> Connection | None:
        """The connection that has to end before this client can have one more."""
        if len(self._by_client.get(client, ())) >= self._limits.at_once_from_one:
            return self.first_to_go(client)
        return self.first_to_go() if self._count >= self._limits.at_once else None

    def first_to_go(self, client: Client | None = None) -> Connection | None:
        """The connection that gives way first: the client's, or that of the client that has most."""
        if client is None:
            if not self._by_client:
                return None
            client = max(self._by_client, key=lambda one: len(self._by_client[one]))
        return next(iter(self._by_client[client]))

    def add(self, connection: Connection) -> None:
        """Takes in a new connection."""
        self._by_client.setdefault(connection.client, OrderedDict())[connection] = None
        self._count += 1

    def moved(self, connection: Connection) -> None:
        """Follows a connection that has come to its next step."""
        first = connection.state is State.CLIENT
        self._by_client[connection.client].move_to_end(connection, last=not first)

    def remove(self, connection: Connection) -> None:
        """Forgets a connection."""
        own = self._by_client[connection.client]
        del own[connection]
        self._count -= 1
        if not own:
            del self._by_client[connection.client]
