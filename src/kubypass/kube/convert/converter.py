# SPDX-License-Identifier: Apache-2.0
"""Converts an object of any kind to the model's type."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kubypass.kube import wire
from kubypass.kube.convert.endpoint_slice import convert_slice
from kubypass.kube.convert.labels import is_selected
from kubypass.kube.convert.node import convert_node
from kubypass.kube.convert.pod import convert_pod
from kubypass.kube.convert.service import convert_service

if TYPE_CHECKING:
    from kubypass.kube.store import Object


@dataclass(frozen=True, slots=True)
class Converter:
    """Selects the objects that are of use here, and converts them."""

    proxy_name: str = ""
    """The label `service-proxy-name` that Services and slices must have; empty: they must have no such label."""
    every_pod: bool = False
    """Whether pods without host ports are included."""
    names: dict[str, str] = field(default_factory=dict)
    """Strings that occur often, each held once."""

    def convert(self, source: wire.WireObject, notes: list[str]) -> Object | None:
        """The object as the model has it; None if it is of no use here."""
        if isinstance(source, wire.Node):
            return convert_node(source, notes)
        if isinstance(source, wire.Pod):
            return convert_pod(source, notes, every=self.every_pod)
        if not is_selected(source.metadata or wire.Metadata(), self.proxy_name):
            return None
        if isinstance(source, wire.Service):
            return convert_service(source, notes)
        return convert_slice(source, self.names, notes)
