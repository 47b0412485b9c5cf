# SPDX-License-Identifier: Apache-2.0
"""What an agent is started with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """The command line of `kubypass agent`."""

    manifests: Path | None
    """None: the objects are an API's."""
    node: str
    config: Path | None
    overrides: Mapping[str, str]
    """Settings by key, over those of the file."""
    run: Path
    bpffs: Path
    cgroup: Path | None
    """None: where cgroup v2 is mounted."""
    check_every_s: float = 60.0
    """How often everything is looked at again, event or not."""
    cni_conf_dir: Path | None = None
    """Where the container runtime looks for networks; with `cni_bin_dir`: the pods' network is ours."""
    cni_bin_dir: Path | None = None
    kubeconfig: Path | None = None
    config_map: str = ""
    """`namespace/name` of the ConfigMap with the settings; empty: they are in `config`."""
