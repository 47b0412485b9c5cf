# SPDX-License-Identifier: Apache-2.0
"""Endpoints of this node: N of a healthCheckNodePort, and service ports that have none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kubypass.agent.http_ports import health_check_hosts
from kubypass.agent.local_endpoints import count_local_ready, count_without_local
from kubypass.model.address import UNSPECIFIED, format_address, parse_address
from kubypass.model.endpoint import Endpoint, EndpointSlice
from kubypass.model.protocol import Protocol
from kubypass.model.service import Service, ServicePort
from kubypass.settings.check import check_settings
from kubypass.settings.settings import Settings

TCP, UDP = Protocol.TCP, Protocol.UDP
ALL = format_address(UNSPECIFIED[4])
PORTS = (ServicePort("http", TCP, 80, 30080), ServicePort("https", TCP, 443, 30443))
WEB = Service(
    "default", "web", "LoadBalancer",
    (parse_address("10.96.0.1"), parse_address("fd96::1")), (), (), PORTS,
    external_local=True, health_check_port=31000,
)  # fmt: skip
IPV4_ONLY = check_settings({"enable-ipv6": "false"})[0]


def endpoint(text: str) -> Endpoint:
    """`address@node=state`; the state has words of r(eady), s(erving), t(erminating)."""
    where, _, state = text.partition("=")
    address, _, node = where.partition("@")
    state = state or "rs"
    return Endpoint(parse_address(address), node, "r" in state, "s" in state, "t" in state)


def slices(
    *texts: str, port: tuple[str, Protocol, int] = ("http", TCP, 8080), name: str = "web-1"
) -> tuple[EndpointSlice, ...]:
    """One slice of each family that occurs."""
    found = [endpoint(text) for text in texts]
    return tuple(
        EndpointSlice("default", f"{name}-{family}", "web", family, (port,), tuple(some))
        for family in (4, 6)
        if (some := [e for e, text in zip(found, texts, strict=True) if (":" in text) == (family == 6)])
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((), 0),
        (slices("10.1.0.1@here"), 1),
        (slices("10.1.0.1@here", "10.1.0.2@here", "10.1.0.3@there", "10.1.0.4@"), 2),
        (slices("10.1.0.1@here=s", "10.1.0.2@here=st", "10.1.0.3@here=t"), 0),
        (slices("10.1.0.1@here=rst"), 0),
        (slices("10.1.0.1@here", "fd01::1@here"), 1),
        (slices("10.1.0.1@here") + slices("10.1.0.1@here", port=("https", TCP, 8443)), 1),
        (slices("10.1.0.1@here") + slices("10.1.0.2@here", port=("https", TCP, 8443)), 2),
        (slices("10.1.0.1@here=st") + slices("10.1.0.1@here", name="web-2"), 1),
        (slices("10.1.0.1@here", port=("http", UDP, 8080)), 0),
        (slices("10.1.0.1@here", port=("metrics", TCP, 9090)), 0),
    ],
    ids=[
        "no slice", "one", "others are elsewhere", "not ready", "ready and terminating", "both families",
        "one address, two ports", "an address each", "two slices", "other protocol", "other port",
    ],
)  # fmt: skip
def test_local_ready(found: tuple[EndpointSlice, ...], expected: int) -> None:
    assert count_local_ready(WEB, found, "here", Settings()) == expected


def test_a_family_that_is_off_or_not_the_services_does_not_count() -> None:
    both = slices("10.1.0.1@here", "fd01::1@here")
    assert count_local_ready(WEB, both, "here", IPV4_ONLY) == 1
    single = replace(WEB, cluster_ips=WEB.cluster_ips[:1])
    assert count_local_ready(single, both, "here", Settings()) == 1


@pytest.mark.parametrize(
    ("service", "found", "expected"),
    [
        (WEB, slices("10.1.0.1@there"), {(4, "external"): 1}),
        (WEB, slices("10.1.0.1@there", "10.1.0.2@here"), {}),
        (WEB, slices("10.1.0.1@there", "10.1.0.2@here=st"), {}),
        (WEB, slices("10.1.0.1@there", "10.1.0.2@here=s"), {(4, "external"): 1}),
        (WEB, slices("10.1.0.1@there=s"), {}),
        (WEB, slices("10.1.0.1@there", "fd01::1@there"), {(4, "external"): 1, (6, "external"): 1}),
        (WEB, slices("10.1.0.1@there") + slices("10.1.0.1@there", port=("https", TCP, 8443)),
         {(4, "external"): 2}),
        (replace(WEB, internal_local=True), slices("10.1.0.1@there"),
         {(4, "external"): 1, (4, "internal"): 1}),
        (replace(WEB, external_local=False), slices("10.1.0.1@there"), {}),
        (replace(WEB, ports=(ServicePort("http", TCP, 80, 0),)), slices("10.1.0.1@there"), {}),
    ],
    ids=[
        "elsewhere", "here too", "the last one ends", "not ready", "none usable", "families", "ports",
        "internal", "no policy", "not external",
    ],
)  # fmt: skip
def test_without_local(
    service: Service, found: tuple[EndpointSlice, ...], expected: dict[tuple[int, str], int]
) -> None:
    counts = count_without_local([service], {service.key: found}, "here", Settings())
    assert {kind: count for kind, count in counts.items() if count} == expected
    assert len(counts) == 4, "zeroes are told"


def test_without_local_of_a_family_that_is_off() -> None:
    found = {WEB.key: slices("10.1.0.1@there", "fd01::1@there")}
    assert count_without_local([WEB], found, "here", IPV4_ONLY) == {
        (4, "external"): 1, (4, "internal"): 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [ALL, "::"]),
        ({"enable-ipv6": "false"}, [ALL]),
        ({"nodeport-addresses": "192.168.1.0/24"}, ["192.168.1.31", "::"]),
        ({"nodeport-addresses": "0.0.0.0/0,fd00::/64"}, [ALL, "fd00::31"]),
        ({"nodeport-addresses": "192.168.9.0/24,fe80::/64"}, []),
        ({"nodeport-addresses": "primary"}, ["192.168.1.31"]),
    ],
)
def test_where_health_checks_listen(given: dict[str, str], expected: list[str]) -> None:
    addresses = [parse_address(a) for a in ("10.0.0.9", "192.168.1.31", "fd00::31", "fe80::1")]
    assert health_check_hosts(check_settings(given)[0], addresses, addresses[1:2]) == expected
