# SPDX-License-Identifier: Apache-2.0
"""One connection to one API server: HTTP/1.1, one request at a time. Responses are read whole or as a stream."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import time
from contextlib import suppress

from kubypass.errors import ConfigError
from kubypass.kube.client.access import Access, ApiAddress, Trust
from kubypass.kube.client.failures import Refused, Unreachable, read_refusal, unreachable

CONNECT_S = 10.0
ANSWER_S = 60.0
"""The limit until a response starts. A server gives up after a minute, too."""
_LOST_MS = 30_000
"""TCP gives up after this on a peer that acknowledges nothing."""
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
_AGENT = "kubypass"
_NOT_KNOWN = "the token or certificate of {} is not accepted: expired, or another cluster's"


def tls_context(trust: Trust, origin: str) -> ssl.SSLContext:
    """The TLS context of connections. Raises ConfigError for certificates that cannot be used."""
    try:
        context = ssl.create_default_context(cadata=trust.authority or None)
    except (ssl.SSLError, ValueError) as error:
        message = f"{origin}: certificate-authority cannot be used: {error}"
        raise ConfigError(message, "expected certificates as PEM") from None
    # CAs of clusters often lack key identifiers, which VERIFY_X509_STRICT demands.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if trust.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if trust.certificate:
        _load_certificate(context, trust, origin)
    return context


def _load_certificate(context: ssl.SSLContext, trust: Trust, origin: str) -> None:
    """Loads the client's certificate. OpenSSL reads files only, so files in memory hold it meanwhile."""
    opened: list[int] = []
    try:
        for text in (trust.certificate, trust.key):
            fd = os.memfd_create("client", os.MFD_CLOEXEC)
            opened.append(fd)
            os.write(fd, text.encode())
        context.load_cert_chain(*(f"/proc/self/fd/{fd}" for fd in opened))
    except ssl.SSLError as error:
        message = f"{origin}: client-certificate and client-key cannot be used: {error.reason}"
        raise ConfigError(message, "expected a certificate and its key as PEM") from None
    finally:
        for fd in opened:
            os.close(fd)


class Connection:
    """One thread uses it; any thread may abort it."""

    def __init__(self, server: ApiAddress, access: Access, context: ssl.SSLContext) -> None:
        self.server = server
        self.last_heard = time.monotonic()
        """When the server last sent something (monotonic seconds)."""
        self._access = access
        self._http = http.client.HTTPConnection(server.host, server.port, timeout=CONNECT_S)
        try:
            self._http.sock = self._connect(context)
        except OSError as error:
            raise unreachable(server, error, access.origin) from None

    def _connect(self, context: ssl.SSLContext) -> socket.socket:
        server = self.server
        plain = socket.create_connection((server.host, server.port), CONNECT_S)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _LOST_MS)
            for option, value in _KEEPALIVE:
                plain.setsockopt(socket.IPPROTO_TCP, option, value)
            if server.scheme == "http":
                return plain
            name = self._access.trust.server_name or server.host
            return context.wrap_socket(plain, server_hostname=name)
        except BaseException:
            plain.close()
            raise

    @property
    def peer(self) -> str:
        """The address of the server's end."""
        return str(self._http.sock.getpeername()[0])

    def request(
        self, path: str, method: str = "GET", body: bytes = b"", kind: str = ""
    ) -> http.client.HTTPResponse:
        """Sends a request and returns the start of the response. Raises Refused or Unreachable.

        A token that is refused is read again, once.
        """
        try:
            return self._request(path, method, body, kind)
        except Refused as refused:
            if refused.code != http.client.UNAUTHORIZED:
                raise
            before = self._access.credentials.token()
            self._access.credentials.forget()
            if self._access.credentials.token() == before:
                refused.hint = _NOT_KNOWN.format(self._access.origin)
                raise
            return self._request(path, method, body, kind)

    def _request(self, path: str, method: str, body: bytes, kind: str) -> http.client.HTTPResponse:
        headers = {"Accept": "application/json", "User-Agent": _AGENT}
        if token := self._access.credentials.token():
            headers["Authorization"] = f"Bearer {token}"
        if body:
            headers["Content-Type"] = kind or "application/json"
        try:
            self._http.sock.settimeout(ANSWER_S)
            self._http.request(method, f"{self.server.path}{path}", body or None, headers)
            response = self._http.getresponse()
            self.last_heard = time.monotonic()
            if response.status < http.client.BAD_REQUEST:
                return response
            said = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from None
        raise read_refusal(said, response.status, response.headers.get("Retry-After", ""))

    def read(self, response: http.client.HTTPResponse) -> bytes:
        """The rest of a response."""
        try:
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from None
        self.last_heard = time.monotonic()
        return body

    def read_chunk(self, response: http.client.HTTPResponse, patience_s: float) -> bytes:
        """The next bytes of an endless response; empty at its end."""
        try:
            self._http.sock.settimeout(patience_s)
            data = response.read1(1 << 18)
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from None
        self.last_heard = time.monotonic()
        return data

    def _lost(self, error: Exception) -> Unreachable:
        self.close()
        return unreachable(self.server, error, self._access.origin)

    def abort(self) -> None:
        """Ends the request of another thread."""
        with suppress(OSError, AttributeError):
            self._http.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the connection."""
        self._http.close()
