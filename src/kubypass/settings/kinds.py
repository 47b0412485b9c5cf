# SPDX-License-Identifier: Apache-2.0
"""The kinds of values that several groups of settings have."""

from __future__ import annotations

from typing import Final

from kubypass.settings.key import Kind
from kubypass.settings.parse import parse_bool, parse_duration_between, parse_words
from kubypass.settings.parse_names import (
    parse_device,
    parse_devices,
    parse_label_key,
    parse_label_value,
)

SWITCH: Final = Kind("true or false", parse_bool)
FLOW_TIMEOUT: Final = Kind(
    "duration, 1s to 8760h, such as 60s or 2h30m", parse_duration_between(1, 8760 * 3600)
)
API_TIMEOUT: Final = Kind("duration, 1s to 24h, such as 30s", parse_duration_between(1, 24 * 3600))
DEVICE: Final = Kind("device", parse_device)
DEVICES: Final = Kind("devices, separated by commas", parse_devices)
LABEL_VALUE: Final = Kind("value of a label", parse_label_value)
LABEL_KEY: Final = Kind("key of a taint", parse_label_key)
NAMES: Final = Kind("names, separated by commas", parse_words)
