# SPDX-License-Identifier: Apache-2.0
"""The options of the command `kubypass agent`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """The parsed command line."""

    manifests: Path | None
    """None where the objects come from an API."""
    node: str
    config: Path | None
    overrides: Mapping[str, str]
    """Settings by key; they override those of the file."""
    run: Path
    bpffs: Path
    cgroup: Path | None
    """None means the directory where cgroup v2 is mounted."""
    check_every_s: float = 60.0
    """How often everything is checked, whether an event came or not."""
    cni_conf_dir: Path | None = None
    """Where the container runtime looks for networks. With `cni_bin_dir`, the pods' network is ours."""
    cni_bin_dir: Path | None = None
    kubeconfig: Path | None = None
    config_map: str = ""
    """`namespace/name` of the ConfigMap with the settings; empty where they are in `config`."""
    node_configs: str | None = None
    """Names of ConfigMaps for some nodes, with commas; None: those with the label."""
