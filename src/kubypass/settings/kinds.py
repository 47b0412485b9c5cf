# SPDX-License-Identifier: Apache-2.0
"""The kinds of values that several groups of settings have."""

from __future__ import annotations

from typing import Final

from kubypass.settings.key import Kind
from kubypass.settings.parse import parse_bool, parse_duration_ns, parse_text, parse_words

SWITCH: Final = Kind("true or false", parse_bool)
DURATION: Final = Kind("duration, such as 60s or 2h30m", parse_duration_ns)
NAME: Final = Kind("name", parse_text)
NAMES: Final = Kind("names, separated by commas", parse_words)
