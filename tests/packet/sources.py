# SPDX-License-Identifier: Apache-2.0
"""Whose packet a pod's device sends."""

from __future__ import annotations

from kubypass.model.verdict import Hook, Verdict
from tests.packet.lab import SHOT, Result
from tests.packet.uplink import POD_DEVICES

MINE, OTHERS = POD_DEVICES[0], POD_DEVICES[1]
"""The devices of `pod` and of `second_pod`."""
FOREIGN = {(Hook.FROM_POD, Verdict.DROP_FOREIGN_SOURCE): 1}


def dropped(result: Result) -> None:
    assert (result.code, dict(result.counted)) == (SHOT, FOREIGN)
