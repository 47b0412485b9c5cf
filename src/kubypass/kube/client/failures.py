# SPDX-License-Identifier: Apache-2.0
"""Errors of requests to an API server, with messages for users.

KubeError
├── Unreachable    no answer: network, TLS, a broken connection
└── Refused        an answer with an error status
"""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import Final

import msgspec

from kubypass.errors import KubeError

_NOT_SIGNED: Final = frozenset({18, 19, 20, 21})
_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9
_OTHER_NAME: Final = frozenset({62, 64})


class Unreachable(KubeError):
    """The server gave no answer."""


class Refused(KubeError):
    """An answer with an error: `code` is the HTTP status, `reason` that of a Status (`Forbidden`, `Expired`)."""

    def __init__(self, message: str, code: int, reason: str = "", retry_after_s: float = 0) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.retry_after_s = retry_after_s

    @property
    def expired(self) -> bool:
        """Whether the server has forgotten the resource version (410 Gone): the resource must be listed again."""
        return self.code == http.client.GONE or self.reason in {"Expired", "Gone"}


class _Status(msgspec.Struct, gc=False):
    """`v1` Status."""

    message: str | None = None
    reason: str | None = None
    code: int | None = None


def read_refusal(body: bytes | msgspec.Raw, code: int, retry_after: str = "") -> Refused:
    """Reads the body of a response, or of an ERROR event. `code` is used if the body has none."""
    try:
        status = msgspec.json.decode(body, type=_Status)
    except msgspec.DecodeError:
        words = bytes(body[:200]).decode("utf-8", "replace").split()
        status = _Status(" ".join(words))
    seconds = float(retry_after) if retry_after.isdigit() else 0.0
    code = status.code or code
    said = status.message or status.reason or http.client.responses.get(code, "no reason given")
    return Refused(f"{said} ({code})", code, status.reason or "", seconds)


def unreachable(server: object, error: Exception, origin: str) -> Unreachable:
    """The error in one line. `origin` is where the CA and the address are written."""
    message, hint = _reason(error, origin)
    return Unreachable(f"{server}: {message}", hint)


def _reason(error: Exception, origin: str) -> tuple[str, str]:
    """What happened, and a hint."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_reason(error, origin)
    if isinstance(error, ssl.SSLError):
        return _tls_reason(error, origin)
    if isinstance(error, socket.gaierror):
        return f"the name is not known ({error.strerror})", "give an address, or one that resolves"
    return _network_reason(error), ""


def _network_reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.HTTPException):
        return "the connection broke"
    said = error.strerror if isinstance(error, OSError) else None
    return said.lower() if said else str(error) or type(error).__name__


def _certificate_reason(error: ssl.SSLCertVerificationError, origin: str) -> tuple[str, str]:
    code = error.verify_code
    if code in _NOT_SIGNED:
        hint = f"certificate-authority of {origin} is another cluster's or out of date"
        return "its certificate is not signed by the CA that is expected", hint
    if code == _EXPIRED:
        return "its certificate has expired", "renew the API server's certificate"
    if code == _NOT_YET_VALID:
        return "its certificate is not valid yet", "compare the clocks of this node and the server"
    if code in _OTHER_NAME:
        return "its certificate is for another name", "use a name that it has, or tls-server-name"
    return f"its certificate cannot be verified: {error.verify_message}", ""


def _tls_reason(error: ssl.SSLError, origin: str) -> tuple[str, str]:
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "the connection was closed", ""
    reason = error.reason or ""
    if reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST"}:
        return "does not speak TLS", "expected an API server; is the port right?"
    if "ALERT" in reason:
        words = reason.split("ALERT_")[-1].replace("_", " ").lower()
        return f"ends the TLS handshake ({words})", f"look at the client certificate of {origin}"
    return f"TLS: {reason.replace('_', ' ').lower() or error}", ""
