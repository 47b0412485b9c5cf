# SPDX-License-Identifier: Apache-2.0
"""Pod addresses, ClusterIPs and node ports: given out once, kept, refused where they clash."""

from __future__ import annotations

import ipaddress

import msgspec
import pytest

from kubypass.errors import ConfigError, KubypassError
from kubypass_lab.box.addressing import Cidrs, complete_service, next_pod_address
from kubypass_lab.box.files import Json
from kubypass_lab.box.kubekey import IPAddress
from kubypass_lab.box.object_files import parse_object
from kubypass_lab.box.objects import Service

V4 = ipaddress.ip_network("10.233.0.0/18")
V6 = ipaddress.ip_network("fd85::1000/116")


def complete(
    spec: Json, old: Json | None = None, others: Json | None = None, cidrs: Cidrs = (V4,)
) -> Json:
    """The completed spec of the Service default/web; `others` is the spec of default/other."""
    raw: Json = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}
    applied = parse_object(raw, "file.yaml, document 1")
    assert applied is not None
    assert isinstance(applied.object, Service)
    before = stored("web", old) if old else None
    result = complete_service(
        applied, applied.object, before, [stored("other", others)] if others else [], cidrs
    )["spec"]
    assert isinstance(result, dict)
    return result


def stored(name: str, spec: Json) -> Service:
    return msgspec.convert({"metadata": {"name": name}, "spec": spec}, Service)


def ports(spec: Json) -> list[Json]:
    value = spec["ports"]
    assert isinstance(value, list)
    return value


def test_node_port_service_is_completed_and_kept() -> None:
    first = complete({"type": "NodePort", "ports": [{"port": 80}]})
    assert ipaddress.ip_address(str(first["clusterIP"])) in V4
    (port,) = ports(first)
    assert 30000 <= int(str(port["nodePort"])) <= 32767
    assert port["targetPort"] == 80
    again = complete({"type": "NodePort", "ports": [{"port": 80}]}, old=first)
    assert again == first
    moved = complete({"type": "NodePort", "ports": [{"port": 80}]}, others=first)
    assert moved["clusterIP"] != first["clusterIP"]
    assert ports(moved)[0]["nodePort"] != port["nodePort"]


@pytest.mark.parametrize(
    ("spec", "families"),
    [
        ({}, ["IPv4"]),
        ({"ipFamilies": ["IPv6"]}, ["IPv6"]),
        ({"ipFamilyPolicy": "PreferDualStack"}, ["IPv4", "IPv6"]),
        ({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}, ["IPv6", "IPv4"]),
        ({"clusterIP": "fd85::1234"}, ["IPv6"]),
        ({"clusterIP": "None"}, ["IPv4"]),
    ],
)
def test_families(spec: Json, families: list[str]) -> None:
    result = complete({**spec, "ports": [{"port": 80}]}, cidrs=(V4, V6))
    assert result["ipFamilies"] == families
    if spec.get("clusterIP") != "None":
        addresses = result["clusterIPs"]
        assert isinstance(addresses, list)
        assert [f"IPv{ipaddress.ip_address(text).version}" for text in addresses] == families


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ({"clusterIP": "10.96.0.10"}, ["spec.clusterIP", "10.96.0.10", "10.233.0.0/18"]),
        ({"clusterIP": "10.233.0.5"}, ["spec.clusterIP", "Service default/other"]),
        ({"clusterIP": "10.233.0.999"}, ["spec.clusterIP", "10.233.0.999"]),
        ({"ipFamilies": ["IPv6"]}, ["spec.ipFamilies", "IPv6"]),
        ({"ipFamilyPolicy": "RequireDualStack"}, ["spec.ipFamilyPolicy", "only IPv4"]),
        (
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]},
            ["nodePort", "30080", "default/other"],
        ),
        (
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]},
            ["spec.ports[0].nodePort", "30000-32767"],
        ),
        ({"ports": [{"port": 80, "nodePort": 30090}]}, ["spec.ports[0].nodePort", "ClusterIP"]),
    ],
)
def test_clashes_name_both_sides(spec: Json, parts: list[str]) -> None:
    taken = {
        "clusterIPs": ["10.233.0.5"],
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}],
    }
    with pytest.raises(ConfigError) as error:
        complete({"ports": [{"port": 80}], **spec}, others=taken)
    for part in ["service default/web", *parts]:
        assert part in str(error.value)


def test_pod_addresses_go_round() -> None:
    cidr = ipaddress.ip_network("10.233.64.0/27")
    first = next_pod_address(cidr, [], None)
    assert str(first) == "10.233.64.14"
    second = next_pod_address(cidr, [], first)
    assert str(second) == "10.233.64.15"
    assert str(next_pod_address(cidr, [], ipaddress.ip_address("10.233.64.30"))) == "10.233.64.14"
    everything: list[IPAddress] = list(cidr)
    with pytest.raises(KubypassError, match="no pod address is free"):
        next_pod_address(cidr, everything, first)


LOCAL: Json = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]}


def test_health_check_ports() -> None:
    first = complete(LOCAL)
    number = int(str(first["healthCheckNodePort"]))
    assert 30000 <= number <= 32767
    assert number != ports(first)[0]["nodePort"]
    assert complete(LOCAL, old=first) == first
    assert complete(LOCAL, others=first)["healthCheckNodePort"] != number
    assert complete({**LOCAL, "healthCheckNodePort": 31234})["healthCheckNodePort"] == 31234
    assert "healthCheckNodePort" not in complete({**LOCAL, "externalTrafficPolicy": "Cluster"})


@pytest.mark.parametrize(
    ("spec", "others", "field"),
    [
        ({"ports": [{"port": 80}], "healthCheckNodePort": 31234}, None, "healthCheckNodePort"),
        ({**LOCAL, "healthCheckNodePort": 31234}, {**LOCAL, "healthCheckNodePort": 31234}, "healthCheckNodePort"),
        ({**LOCAL, "ports": [{"port": 80, "nodePort": 31234}]}, {**LOCAL, "healthCheckNodePort": 31234}, "nodePort"),
        ({"ports": [{"port": 80}], "externalIPs": ["here"]}, None, "spec.externalIPs"),
        ({"ports": [{"port": 80}], "loadBalancerSourceRanges": ["10.0.0.1"]}, None, "spec.loadBalancerSourceRanges"),
        ({"ports": [{"port": 80}], "trafficDistribution": "PreferFar"}, None, "spec.trafficDistribution"),
        ({"ports": [{"port": 80}], "sessionAffinity": "Cookie"}, None, "spec.sessionAffinity"),
    ],
)  # fmt: skip
def test_what_an_api_server_refuses(spec: Json, others: Json | None, field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        complete(spec, others=others)


def test_defaults() -> None:
    found = complete({"ports": [{"port": 80}], "sessionAffinity": "ClientIP"})
    assert found["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    assert found["internalTrafficPolicy"] == "Cluster"
    assert "externalTrafficPolicy" not in found
    found = complete({"ports": [{"port": 80}], "externalIPs": ["198.51.100.1"]})
    assert found["externalTrafficPolicy"] == "Cluster"
