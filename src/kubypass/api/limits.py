# SPDX-License-Identifier: Apache-2.0
"""What the HTTP server grants its clients, who may be anybody in the network."""

from __future__ import annotations

import resource
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Limits:
    """The times are for a whole step, however many bytes come meanwhile."""

    request_s: float = 5.0
    """From the connection to the end of the request's head. Probes send theirs at once."""
    page_s: float = 30.0
    """From the request to its answer's first byte: a page may have to wait for others to be made."""
    answer_s: float = 30.0
    """From the first byte of an answer to its last. 8 MB in this time are 2 Mbit/s."""
    drain_s: float = 1.0
    """From the last byte of an answer to the client's own end."""
    at_once: int = 1024
    """Connections to all TCP ports together. One more ends the oldest of the client that has the most."""
    at_once_from_one: int = 256
    """Connections of one client (an IPv4 address, an IPv6 /64); one more ends its oldest.

    Probes of all load balancers may come from one address, one for each service at the same moment; each is answered
    within a millisecond of its request.
    """
    large: int = 64 * 1024
    """An answer of so many bytes may have to wait for its reader, and takes memory meanwhile."""
    large_at_once: int = 16
    """Large answers that wait for their readers; one more ends the oldest."""
    makers: int = 4
    """Threads that make pages which take long, for each kind of listener (TCP, unix)."""


def default_limits() -> Limits:
    """The limits, within a quarter of the files that this process may open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = Limits()
    at_once = min(limits.at_once, files // 4)
    return replace(
        limits, at_once=at_once, at_once_from_one=min(limits.at_once_from_one, at_once // 2)
    )
