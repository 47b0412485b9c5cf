# SPDX-License-Identifier: Apache-2.0
"""The chart's files, from the package or from a checkout's deploy directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from kubypass.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parents[1]
_PACKAGED = _PACKAGE / "chart"
_CHECKOUT = _PACKAGE.parents[1] / "deploy"


def default_values() -> dict[str, Any]:
    """The content of values.yaml."""
    found: dict[str, Any] = yaml.load(_find("values.yaml"), Loader=yaml.CSafeLoader)
    return found


def values_schema() -> dict[str, Any]:
    """The content of values.schema.json."""
    found: dict[str, Any] = json.loads(_find("values.schema.json"))
    return found


def rendered_objects() -> list[dict[str, Any]]:
    """The objects that helm renders from the default values, in the order of creation.

    The API server's address is a placeholder.
    """
    found = yaml.load_all(_find("kubypass.yaml"), Loader=yaml.CSafeLoader)
    return [each for each in found if each]


def _find(name: str) -> bytes:
    for path in (_PACKAGED / name, _CHECKOUT / name, _CHECKOUT / "helm/kubypass" / name):
        if path.is_file():
            return path.read_bytes()
    raise ConfigError(
        f"{name} is not in this package", "install kubypass again, or run make manifests"
    )
