# SPDX-License-Identifier: Apache-2.0
"""Is this host ready for an agent? Checked before anything is loaded."""

from __future__ import annotations

import os
from pathlib import Path

from kubypass.agent.options import Options
from kubypass.errors import ConfigError, KernelError
from kubypass.kernel import cgroup, mounts

DEFAULT_BPFFS = Path("/sys/fs/bpf")


def check_host(options: Options) -> tuple[Path, bool]:
    """The cgroup to attach to, and whether we mounted the bpf filesystem; ConfigError says what is missing."""
    if os.geteuid() != 0:
        raise ConfigError("the agent needs root: it loads BPF programs", hint="run it with sudo")
    where = options.cgroup or _cgroup_mount()
    if not cgroup.is_cgroup(where):
        raise ConfigError(
            f"--cgroup {where}: not a directory of cgroup v2", hint="give one, or mount cgroup2"
        )
    if mounts.is_bpffs(options.bpffs):
        return where, False
    if options.bpffs != DEFAULT_BPFFS or not options.bpffs.is_dir():
        hint = f"mount -t bpf bpf {options.bpffs}"
        raise ConfigError(f"--bpffs {options.bpffs}: not on a bpf filesystem", hint=hint)
    mounts.mount_bpffs(options.bpffs)
    return where, True


def _cgroup_mount() -> Path:
    try:
        return cgroup.mount_point()
    except KernelError as error:
        raise ConfigError("cgroup v2 is not mounted", hint=error.hint) from None
