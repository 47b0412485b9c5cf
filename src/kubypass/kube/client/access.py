# SPDX-License-Identifier: Apache-2.0
"""All that a client needs: the addresses of API servers, the certificates to trust, and the credentials."""

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
    """`https`, or `http` for `kubectl proxy`."""
    host: str
    """A name or an address, without brackets."""
    port: int
    path: str = ""
    """The prefix of every request's path, such as `/k8s/clusters/c-1`."""

    def __str__(self) -> str:
        return f"{self.scheme}://{in_brackets(self.host)}:{self.port}{self.path}"


@dataclass(frozen=True, slots=True)
class Trust:
    """How the server's certificate is verified, and the client's certificate. Certificates and keys are PEM texts."""

    authority: str = ""
    """The certificates of the CA; empty: the system's CAs."""
    insecure: bool = False
    """Whether verification is skipped (`insecure-skip-tls-verify`)."""
    server_name: str = ""
    """The name that the certificate must have (`tls-server-name`); empty: the host of the address."""
    certificate: str = dataclasses.field(default="", repr=False)
    key: str = dataclasses.field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Access:
    """The servers of one cluster, and how a client authenticates them and itself."""

    servers: tuple[ApiAddress, ...]
    """Servers in order of preference."""
    trust: Trust
    credentials: Credentials
    origin: str
    """Where this configuration is written, for messages."""
    how_to_change: str
    """What to set to use another address, for messages."""

    def with_servers(self, servers: Iterable[ApiAddress]) -> Access:
        """The same access with other addresses; unchanged if none are given."""
        return dataclasses.replace(self, servers=tuple(servers) or self.servers)


def parse_server(url: str, where: str) -> ApiAddress:
    """Parses a URL; the scheme defaults to https. Raises ConfigError, which names the setting `where`."""
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
