# SPDX-License-Identifier: Apache-2.0
"""One connection to one API server: HTTP/1.1, a request at a time, answers whole or as they come."""

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
"""Until an answer begins; a server gives up after a minute, too."""
_LOST_MS = 30_000
"""TCP gives up on a peer that acknowledges nothing."""
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
_AGENT = "kubypass"
_NOT_KNOWN = "the token or certificate of {} is not accepted: expired, or another cluster's"


def tls_context(trust: Trust, origin: str) -> ssl.SSLContext:
    """For connections to servers; ConfigError for certificates that cannot be used."""
    try:
        context = ssl.create_default_context(cadata=trust.authority or None)
    except (ssl.SSLError, ValueError) as error:
        message = f"{origin}: certificate-authority cannot be used: {error}"
        raise ConfigError(message, "expected certificates as PEM") from None
    context.verify_flags &= (
        ~ssl.VERIFY_X509_STRICT
    )  # clusters' CAs are often without key identifiers
    if trust.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if trust.certificate:
        _load_certificate(context, trust, origin)
    return context


def _load_certificate(context: ssl.SSLContext, trust: Trust, origin: str) -> None:
    """OpenSSL reads files only: these are in memory, and gone afterwards."""
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
    """Used by one thread; any other may cut it off."""

    def __init__(self, server: ApiAddress, access: Access, context: ssl.SSLContext) -> None:
        self.server = server
        self.heard = time.monotonic()
        """When the server was last heard of."""
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
        """The address that we are connected to."""
        return str(self._http.sock.getpeername()[0])

    def ask(
        self, path: str, method: str = "GET", body: bytes = b"", kind: str = ""
    ) -> http.client.HTTPResponse:
        """The answer's beginning; Refused or Unreachable. A token that is refused is read anew, once."""
        try:
            return self._ask(path, method, body, kind)
        except Refused as refused:
            if refused.code != http.client.UNAUTHORIZED:
                raise
            before = self._access.credentials.token()
            self._access.credentials.forget()
            if self._access.credentials.token() == before:
                refused.hint = _NOT_KNOWN.format(self._access.origin)
                raise
            return self._ask(path, method, body, kind)

    def _ask(self, path: str, method: str, body: bytes, kind: str) -> http.client.HTTPResponse:
        headers = {"Accept": "application/json", "User-Agent": _AGENT}
        if token := self._access.credentials.token():
            headers["Authorization"] = f"Bearer {token}"
        if body:
            headers["Content-Type"] = kind or "application/json"
        try:
            self._http.sock.settimeout(ANSWER_S)
            self._http.request(method, f"{self.server.path}{path}", body or None, headers)
            answer = self._http.getresponse()
            self.heard = time.monotonic()
            if answer.status < http.client.BAD_REQUEST:
                return answer
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from None
        raise read_refusal(said, answer.status, answer.headers.get("Retry-After", ""))

    def read(self, answer: http.client.HTTPResponse) -> bytes:
        """All the rest of an answer."""
        try:
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from None
        self.heard = time.monotonic()
        return body

    def read_some(self, answer: http.client.HTTPResponse, patience_s: float) -> bytes:
        """What has come of an answer without end; empty at its end all the same."""
        try:
            self._http.sock.settimeout(patience_s)
            data = answer.read1(1 << 18)
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from None
        self.heard = time.monotonic()
        return data

    def _lost(self, error: Exception) -> Unreachable:
        self.close()
        return unreachable(self.server, error, self._access.origin)

    def cut(self) -> None:
        """Ends what another thread waits for."""
        with suppress(OSError, AttributeError):
            self._http.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """No more questions."""
        self._http.close()
