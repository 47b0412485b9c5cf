# SPDX-License-Identifier: Apache-2.0
"""`kubypass trace --batch`: answers cases in JSON Lines, one line for each. Every case brings its own objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from kubypass.errors import KubypassError
from kubypass.kernel.features import Features, probe_features
from kubypass.trace.batch_case import Case, parse_flow, parse_view
from kubypass.trace.fields import verdict_fields
from kubypass.trace.messages import reason
from kubypass.trace.programs import Programs
from kubypass.trace.run import Source, run
from kubypass.trace.scratch_maps import ScratchMaps

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Raised for a line that is not JSON, or that nests too deeply."""


class _Id(msgspec.Struct):
    """The part of a bad case that its answer needs."""

    id: Any = None


def answer_cases(programs: Programs, lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yields one line of JSON for each line that is not empty; a bad case gets a line with `error`."""
    features = probe_features()
    for line in lines:
        if not line.strip():
            continue
        try:
            case = msgspec.json.decode(line, type=Case)
            yield msgspec.json.encode(_answer(programs, case, features))
        except (*_UNREADABLE, ValueError, KubypassError) as error:
            yield msgspec.json.encode({"id": _id(line), "error": " ".join(str(error).split())})


def _id(line: bytes) -> object:
    try:
        return msgspec.json.decode(line, type=_Id).id
    except _UNREADABLE:
        return None


def _answer(programs: Programs, case: Case, features: Features) -> dict[str, object]:
    flow, view = parse_flow(case), parse_view(case, features)
    maps = ScratchMaps(view)
    programs.configure(view.config)
    maps.write(programs.maps, programs.ifindex)
    found = run(programs, flow, Source(case.flow.src_kind), frozenset(view.addresses))
    return {
        "id": case.id,
        **verdict_fields(found),
        "reason": reason(found, maps.explain_port),
        "problems": [str(problem) for problem in maps.problems],
    }
