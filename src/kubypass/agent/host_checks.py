# SPDX-License-Identifier: Apache-2.0
"""Checks that this host is ready for an agent, before anything is loaded."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from kubypass.agent.options import Options
from kubypass.errors import ConfigError, KernelError
from kubypass.kernel import cgroup, mounts

DEFAULT_BPFFS = Path("/sys/fs/bpf")


def check_host(options: Options) -> Path:
    """The cgroup to attach to; ConfigError says what is missing.

    A plain directory /sys/fs/bpf is no error: the agent mounts a bpf filesystem there.
    """
    if os.geteuid() != 0:
        raise ConfigError("the agent needs root: it loads BPF programs", hint="run it with sudo")
    where = options.cgroup or _cgroup_mount()
    if not cgroup.is_cgroup(where):
        raise ConfigError(
            f"--cgroup {where}: not a directory of cgroup v2", hint="give one, or mount cgroup2"
        )
    may_mount = options.bpffs == DEFAULT_BPFFS and options.bpffs.is_dir()
    if not (may_mount or mounts.is_bpffs(options.bpffs)):
        hint = f"mount -t bpf bpf {options.bpffs}"
        raise ConfigError(f"--bpffs {options.bpffs}: not on a bpf filesystem", hint=hint)
    return where


def allow_open_files() -> None:
    """Lets this process open as many files as it may: each pod takes two, and each client of the HTTP ports one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _cgroup_mount() -> Path:
    try:
        return cgroup.mount_point()
    except KernelError as error:
        raise ConfigError("cgroup v2 is not mounted", hint=error.hint) from None
