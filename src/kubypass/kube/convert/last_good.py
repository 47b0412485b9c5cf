# SPDX-License-Identifier: Apache-2.0
"""What a wrong annotation says is not used: the object keeps what the annotation said last.

A slip of the keyboard in an annotation would otherwise move connections, or admit clients, at once. An object that is
new, also to an agent that has just started, has nothing to keep: the annotation is left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from kubypass.model.endpoint import EndpointSlice
from kubypass.model.service import Service

if TYPE_CHECKING:
    from kubypass.kube.store import Object

Annotated = TypeVar("Annotated", Service, EndpointSlice)


def keep_last_good(new: Object | None, old: Object | None, notes: list[str]) -> Object | None:
    """The object, with the values of its last state `old` where annotations are wrong; the notes say which hold."""
    if isinstance(new, Service) and new.wrong:
        same = old if isinstance(old, Service) and old.uid == new.uid else new
        return _keep(new, same, notes)
    if isinstance(new, EndpointSlice) and new.wrong:
        found = _keep(new, old if isinstance(old, EndpointSlice) else new, notes)
        endpoints = tuple(replace(each, weight=found.weight) for each in found.endpoints)
        return replace(found, endpoints=endpoints)
    return new


def _keep(new: Annotated, old: Annotated, notes: list[str]) -> Annotated:
    kept: dict[str, Any] = {}
    for wrong in new.wrong:
        good, default = getattr(old, wrong.field), getattr(new, wrong.field)
        if good == default:
            notes.append(f"{wrong.message}; {wrong.otherwise}")
            continue
        kept[wrong.field] = good
        said = f", {good}," if isinstance(good, str) or type(good) is int else ""
        notes.append(f"{wrong.message}; the last good value{said} stays in use")
    return replace(new, wrong=(), **kept)
