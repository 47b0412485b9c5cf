# SPDX-License-Identifier: Apache-2.0
"""docs/maps.md is what `make layout` writes."""

from __future__ import annotations

from pathlib import Path

from kubypass.datapath.map_document import map_document
from kubypass.kernel.btf import Btf

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_maps_is_fresh() -> None:
    made = map_document(
        (ROOT / "bpf/maps.h").read_text(), Btf.of_object(ROOT / "build/bpf/abi.bpf.o")
    )
    assert made == (ROOT / "docs/maps.md").read_text(), "run make layout"


def test_sizes_name_their_settings() -> None:
    rows = (ROOT / "docs/maps.md").read_text().splitlines()
    flows = next(row for row in rows if row.startswith("| `flows` |"))
    assert "| LRU hash | `tuple` | `flow` | 524288 | `bpf-ct-global-tcp-max` |" in flows
    slots = next(row for row in rows if row.startswith("| `slots` |"))
    assert "| 524288 | `bpf-lb-service-backend-map-max` |" in slots
