# SPDX-License-Identifier: Apache-2.0
"""Bearer tokens: a fixed one, one in a file that is rewritten at times, or one that a program prints.

The programs are exec plugins of client.authentication.k8s.io (KEP-541), which print an ExecCredential.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

import msgspec

from kubypass.errors import KubeError

REREAD_S = 60.0
"""The interval at which a token file is read. The kubelet rewrites it at 80 % of the token's lifetime."""
_EARLY_S = 30.0
_PROGRAM_S = 30.0


class Credentials(Protocol):
    """A source of the client's token."""

    def token(self) -> str:
        """The present token; empty for none. Raises KubeError if it cannot be obtained."""

    def forget(self) -> None:
        """The server refused the token: the next one must not come from the cache."""


@dataclass(frozen=True, slots=True)
class FixedToken:
    """A token that never changes; empty for none."""

    value: str = field(default="", repr=False)

    def token(self) -> str:
        """The token."""
        return self.value

    def forget(self) -> None:
        """Nothing to do: there is no other token."""


class TokenFile:
    """A token in a file, read again every minute."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._value = ""
        self._read_at: float | None = None

    def token(self) -> str:
        """The token. If the file cannot be read, the last one."""
        now = self._clock()
        if self._read_at is None or now - self._read_at >= REREAD_S:
            try:
                self._value = self._path.read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                if not self._value:
                    reason = getattr(error, "strerror", None) or "not text"
                    raise KubeError(
                        f"token file {self._path}: {reason}", "mount the service account's token"
                    ) from None
            self._read_at = now
        return self._value

    def forget(self) -> None:
        """The next call of `token` reads the file."""
        self._read_at = None


class _Status(msgspec.Struct, gc=False, rename="camel"):
    token: str | None = None
    expiration_timestamp: str | None = None


class _ExecCredential(msgspec.Struct, gc=False):
    status: _Status | None = None


class TokenProgram:
    """A program that prints a token. It runs again before the token expires."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        api_version: str,
        hint: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._api_version = api_version
        self._hint = hint
        self._clock = clock
        self._value = ""
        self._until: float | None = None
        self._lock = threading.Lock()

    def token(self) -> str:
        """The token. The program runs if there is none, or if it expires soon."""
        with self._lock:
            late = self._until is not None and self._clock() > self._until - _EARLY_S
            if not self._value or late:
                self._run()
            return self._value

    def forget(self) -> None:
        """The next call of `token` runs the program."""
        with self._lock:
            self._value = ""

    def _run(self) -> None:
        info = {
            "apiVersion": self._api_version,
            "kind": "ExecCredential",
            "spec": {"interactive": False},
        }
        environment = {**os.environ, **self._environment, "KUBERNETES_EXEC_INFO": json.dumps(info)}
        name = self._command[0]
        try:
            done = subprocess.run(
                self._command,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=_PROGRAM_S,
            )
        except OSError as error:
            raise KubeError(f"exec plugin {name}: {error.strerror}", self._hint) from None
        except subprocess.TimeoutExpired:
            message = f"exec plugin {name}: no answer within {_PROGRAM_S:.0f} s"
            raise KubeError(message, self._hint) from None
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            why = said[-1] if said else "it said nothing"
            raise KubeError(f"exec plugin {name}: exit code {done.returncode}: {why}", self._hint)
        try:
            status = msgspec.json.decode(done.stdout, type=_ExecCredential).status
            value = (status.token if status else None) or ""
            until = _seconds(status.expiration_timestamp if status else None)
        except ValueError as error:
            raise KubeError(f"exec plugin {name}: no ExecCredential: {error}", self._hint) from None
        if not value:
            message = f"exec plugin {name}: no status.token; client certificates are not supported"
            raise KubeError(message, self._hint)
        self._value, self._until = value, until


def _seconds(text: str | None) -> float | None:
    """An RFC 3339 time in seconds since 1970."""
    return datetime.fromisoformat(text).timestamp() if text else None
