# SPDX-License-Identifier: Apache-2.0
"""Settings: how a new connection gets its backend."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final

from kubypass.settings.key import Kind, setting
from kubypass.settings.kinds import SWITCH
from kubypass.settings.parse import parse_choice

TABLE_SIZES: Final = (251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071)
"""The sizes that Cilium allows."""
SEED_BYTES: Final = 12
_DEFAULT_SEED: Final = "JLfvgnHc2kaSUFaI"
"""Cilium's: nodes of a cluster have one seed without being told."""


def _parse_algorithm(text: str) -> str:
    return parse_choice("random", "maglev")(text.lower() or "random")


def _parse_table_size(text: str) -> int:
    if text in map(str, TABLE_SIZES):
        return int(text)
    msg = f"expected one of {', '.join(map(str, TABLE_SIZES))}"
    raise ValueError(msg)


def _parse_seed(text: str) -> bytes:
    try:
        seed = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        seed = b""
    if len(seed) != SEED_BYTES:
        msg = (
            f"expected {SEED_BYTES} bytes in base64, which are 16 characters; make some with "
            f"`head -c{SEED_BYTES} /dev/urandom | base64 -w0`, and give every node the same"
        )
        raise ValueError(msg)
    return seed


@dataclass(frozen=True, slots=True)
class BalancingSettings:
    """How a new connection gets its backend."""

    algorithm: str = setting(
        "bpf-lb-algorithm", Kind("word", _parse_algorithm), "random", "random",
        "How connections to NodePorts, external IPs and load balancers' addresses select a backend: at random, or by a "
        "Maglev table that is equal on every node. ClusterIPs select at random.", choices=("random", "maglev"),
    )  # fmt: skip
    by_annotation: bool = setting(
        "bpf-lb-algorithm-annotation", SWITCH, False, "false",
        "The annotation service.cilium.io/lb-algorithm, random or maglev, decides for its Service instead.",
    )  # fmt: skip
    maglev_cells: int = setting(
        "bpf-lb-maglev-table-size", Kind(f"one of {', '.join(map(str, TABLE_SIZES))}", _parse_table_size),
        16381, "16381",
        "Cells of a Maglev table: best a hundred times the backends of a Service or more. Every node needs the same.",
    )  # fmt: skip
    maglev_seed: bytes = setting(
        "bpf-lb-maglev-hash-seed", Kind(f"{SEED_BYTES} bytes in base64", _parse_seed),
        base64.b64decode(_DEFAULT_SEED), _DEFAULT_SEED,
        "Makes Maglev tables, and what clients get of them, hard to foresee. Every node needs the same.",
    )  # fmt: skip

    @property
    def with_maglev(self) -> bool:
        """Whether some Service may have a Maglev table."""
        return self.algorithm == "maglev" or self.by_annotation
