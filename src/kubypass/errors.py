# SPDX-License-Identifier: Apache-2.0
"""Every error that a user may see. Those with a room in brackets are defined there.

    KubypassError
    ├── ConfigError              the user's input is wrong: exit code 2
    ├── NotRunning               no agent answers on its socket [api]
    ├── KubeError                what Kubernetes, or a manifest, said
    │   ├── Unreachable          an API server cannot be reached [kube]
    │   └── Refused              an API server refused a request [kube]
    ├── CniError                 a container runtime's request cannot be served
    └── KernelError              a system call failed
        ├── VerifierError        the verifier refused a program
        └── Unsupported          this kernel does not have a feature

An error is raised at the system call, given meaning once, and caught only where a request or a loop ends.
"""

from __future__ import annotations

import errno
import os


class KubypassError(Exception):
    """What happened, to which object; `hint` says what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class ConfigError(KubypassError):
    """A wrong argument, setting or file."""


class KubeError(KubypassError):
    """A Kubernetes object or API answer that cannot be used."""


class CniError(KubypassError):
    """The answer to a container runtime; `code` is of the CNI specification's "Error", 100 and above our own."""

    def __init__(self, code: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.code = code


class KernelError(KubypassError):
    """A system call that failed: `call` on `subject` with `errno` (0 where the kernel gave none)."""

    def __init__(self, call: str, subject: str, errno: int, hint: str = "") -> None:
        reason = os.strerror(errno) if errno else "failed"
        super().__init__(f"{call} {subject}: {reason}", hint)
        self.call = call
        self.subject = subject
        self.errno = errno


_AFTER = (
    "processed ",
    "verification time",
    "stack depth",
    "-- END",
    "libbpf: prog",
    "libbpf: failed to load",
)


class VerifierError(KernelError):
    """The verifier refused a program; `log` is the end of what it said."""

    def __init__(self, subject: str, errno: int, log: str) -> None:
        said = [line for line in log.splitlines() if line and not line.startswith(_AFTER)]
        super().__init__("load", subject, errno, said[-1] if said else "")
        self.log = log


class Unsupported(KernelError):
    """The kernel does not have `what`, which came with Linux `since` (kernel/features.py)."""

    def __init__(self, what: str, since: str) -> None:
        super().__init__("use", what, errno.EOPNOTSUPP, f"it came with Linux {since}")
        self.what = what
        self.since = since
