# SPDX-License-Identifier: Apache-2.0
"""The version of this installation. It is written in pyproject.toml and nowhere else in the code."""

from __future__ import annotations

from importlib import metadata

VERSION = metadata.version("kubypass")
