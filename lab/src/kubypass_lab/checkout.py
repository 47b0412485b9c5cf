# SPDX-License-Identifier: Apache-2.0
"""What the lab uses of the checkout that it lies in."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
GUIDE = CHECKOUT / "examples/guide"
PROGRAM_MODULES = CHECKOUT / "tests/kubernetes/programs"
"""Go modules that pin the versions of Kubernetes' programs."""
BUILD = CHECKOUT / "build"
MANIFESTS = CHECKOUT / "deploy/kubypass.yaml"


def import_path(checkout: Path = CHECKOUT) -> str:
    """The PYTHONPATH of a checkout: kubypass and its lab."""
    return f"{checkout / 'src'}:{checkout / 'lab/src'}"
