# SPDX-License-Identifier: Apache-2.0
"""Where API servers answer, whom we trust, and who we are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from kubypass.errors import ConfigError
from kubypass.kube.client.credentials import Credentials
from kubypass.model.address import in_brackets

_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class ApiAddress:
    """The address of an API server."""

    scheme: str
    """`https`, or `http` as of `kubectl proxy`."""
    host: str
    """A name or an address, without brackets."""
    port: int
    path: str = ""
    """What goes before every path, such as `/k8s/clusters/c-1`."""

    def __str__(self) -> str:
        return f"{self.scheme}://{in_brackets(self.host)}:{self.port}{self.path}"


@dataclass(frozen=True, slots=True)
class Trust:
    """How a server proves itself, and which certificate we show. PEM texts."""

    authority: str = ""
    """Certificates of the CA; empty: those of the system."""
    insecure: bool = False
    """`insecure-skip-tls-verify`"""
    server_name: str = ""
    """`tls-server-name`; empty: the host of the address."""
    certificate: str = dataclasses.field(default="", repr=False)
    key: str = dataclasses.field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Access:
    """All that a client needs."""

    servers: tuple[ApiAddress, ...]
    """In order of preference."""
    trust: Trust
    credentials: Credentials
    origin: str
    """Where this was written, for messages."""
    how_to_change: str
    """What to set for another address."""

    def at(self, servers: Iterable[ApiAddress]) -> Access:
        """With other addresses, if any are given."""
        return dataclasses.replace(self, servers=tuple(servers) or self.servers)


def parse_server(url: str, where: str) -> ApiAddress:
    """From a URL; `where` names the setting in the ConfigError for any other text. Without a scheme: https."""
    text = url.strip()
    try:
        found = urlsplit(text if "://" in text else f"https://{text}")
        port = found.port or _PORTS.get(found.scheme, 0)
    except ValueError:
        found, port = urlsplit(""), 0
    if not found.hostname or not port or found.username or found.query:
        raise ConfigError(
            f"{where}: {url!r} is no address of an API server",
            hint="expected https://HOST:PORT, an IPv6 address in brackets",
        )
    return ApiAddress(found.scheme, found.hostname, port, found.path.rstrip("/"))
