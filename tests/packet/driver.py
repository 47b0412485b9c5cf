# SPDX-License-Identifier: Apache-2.0
"""Packets that meet XDP in the driver of the uplink, by test run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from kubypass.kernel.program import Program, frame_context
from kubypass.model.verdict import Hook, Verdict

DROP, PASS, TX, REDIRECT = 1, 2, 3, 4
_AS_TC = {DROP: 2, TX: 7, REDIRECT: 7}


@dataclass(frozen=True)
class Taken:
    """What XDP made of a packet, with the code that from_uplink would return."""

    code: int
    packet: bytes
    own_code: int


def drive(program: Program, packet: bytes, device: int) -> Taken | None:
    """Runs a frame through XDP; None where it passes, which has to leave it as it was."""
    run = program.test_run(packet, context=frame_context(device, len(packet)))
    if run.retval == PASS:
        assert run.data == packet, "what passes is unchanged"
        return None
    return Taken(_AS_TC[run.retval], run.data, run.retval)


def as_uplink(counted: Counter[tuple[Hook, Verdict]]) -> Counter[tuple[Hook, Verdict]]:
    """What XDP has counted, as from_uplink would have."""
    assert {hook for hook, _ in counted} == {Hook.XDP}, counted
    return Counter({(Hook.FROM_UPLINK, verdict): n for (_, verdict), n in counted.items()})
