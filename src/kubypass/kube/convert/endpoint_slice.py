# SPDX-License-Identifier: Apache-2.0
"""Converts EndpointSlices. A bad part is left out and noted.

Conditions that are missing get the API's defaults. An endpoint's first address counts, as in kube-proxy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kubypass.kube import wire
from kubypass.kube.convert.annotations import read_weight
from kubypass.kube.convert.fields import FAMILIES, MAX_PORT, PROTOCOLS
from kubypass.model.address import Family, family, parse_address
from kubypass.model.annotation import WrongAnnotation
from kubypass.model.endpoint import Endpoint, EndpointSlice, SlicePort

if TYPE_CHECKING:
    from collections.abc import Iterable

SERVICE_LABEL = "kubernetes.io/service-name"
_DEFAULT_CONDITIONS: Final = wire.Conditions()


def convert_slice(
    source: wire.EndpointSlice, names: dict[str, str], notes: list[str]
) -> EndpointSlice | None:
    """The slice; None if it belongs to no Service, or holds DNS names. `names` holds every string once."""
    metadata = source.metadata or wire.Metadata()
    service = (metadata.labels or {}).get(SERVICE_LABEL)
    wanted = FAMILIES.get(source.address_type or "")
    if source.address_type == "FQDN" or not service:
        return None
    if wanted is None:
        notes.append(f"addressType is {source.address_type!r}; expected IPv4 or IPv6; left out")
        return None
    namespace = metadata.namespace or "default"
    wrong: list[WrongAnnotation] = []
    weight = read_weight(metadata.annotations or {}, wrong)
    return EndpointSlice(
        namespace=names.setdefault(namespace, namespace),
        name=metadata.name,
        service=names.setdefault(service, service),
        family=wanted,
        ports=_slice_ports(source.ports or (), names, notes),
        endpoints=tuple(_endpoints(source.endpoints or (), wanted, weight, names, notes)),
        weight=weight,
        wrong=tuple(wrong),
    )


def _slice_ports(
    ports: Iterable[wire.SlicePort], names: dict[str, str], notes: list[str]
) -> tuple[SlicePort, ...]:
    """The usable ports. A port needs a number and a name, which may be empty."""
    found: list[SlicePort] = []
    for index, port in enumerate(ports):
        protocol = PROTOCOLS.get(port.protocol)
        if port.name is None:
            notes.append(
                f'ports[{index}] has no name; expected one ("" for an unnamed service port); left out'
            )
        elif not port.port:
            continue
        elif protocol is None:
            notes.append(
                f"ports[{index}].protocol is {port.protocol!r}; expected TCP, UDP or SCTP; left out"
            )
        elif not 0 < port.port <= MAX_PORT:
            notes.append(f"ports[{index}].port is {port.port}; expected 1 to {MAX_PORT}; left out")
        else:
            found.append((names.setdefault(port.name, port.name), protocol, port.port))
    return tuple(found)


def _endpoints(
    endpoints: Iterable[wire.Endpoint],
    wanted: Family,
    weight: int,
    names: dict[str, str],
    notes: list[str],
) -> Iterable[Endpoint]:
    share = names.setdefault
    for index, endpoint in enumerate(endpoints):
        text = endpoint.addresses[0] if endpoint.addresses else ""
        try:
            address = parse_address(text)
        except ValueError:
            notes.append(
                f"endpoints[{index}] has {text!r}; expected an IPv{wanted} address; left out"
            )
            continue
        if family(address) != wanted:
            notes.append(
                f"endpoints[{index}] has {text}; expected an IPv{wanted} address; left out"
            )
            continue
        node = endpoint.node_name or ""
        conditions = endpoint.conditions or _DEFAULT_CONDITIONS
        zones, nodes = _hints(endpoint.hints, names) if endpoint.hints else ((), ())
        yield Endpoint(
            address,
            share(node, node),
            conditions.ready is not False,
            conditions.serving is not False,
            conditions.terminating is True,
            zones,
            nodes,
            weight,
        )


def _hints(hints: wire.Hints, names: dict[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    zones, nodes = (
        tuple([names.setdefault(hint.name, hint.name) for hint in some or ()])
        for some in (hints.for_zones, hints.for_nodes)
    )
    return zones, nodes
