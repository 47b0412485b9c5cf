# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from kubypass.model.address import UNSPECIFIED
from kubypass.settings.check import check_settings
from kubypass.settings.cilium_keys import CILIUM_KEYS
from kubypass.settings.key import Key
from kubypass.settings.node_port_addresses import NodePortAddresses
from kubypass.settings.parse import NS_PER_S
from kubypass.settings.settings import KEYS, Settings

GUIDE = {
    "kube-proxy-replacement": "strict", "bpf-lb-external-clusterip": "true", "bpf-lb-sock": "true",
    "enable-node-port": "true", "enable-host-port": "true", "routing-mode": "native",
    "ipv4-native-routing-cidr": "10.233.64.0/18",
}  # fmt: skip


def test_the_guide_is_understood() -> None:
    settings, findings = check_settings(GUIDE)
    assert [f.level for f in findings] == ["deprecated"] + ["accepted"] * 6
    assert settings.services.kube_proxy_replacement == "strict"
    assert settings.services.external_cluster_ip
    assert settings.services.with_node_ports
    assert settings.socket_lb_pods
    assert str(settings.routing.ipv4_native_cidr) == "10.233.64.0/18"
    assert [f.message for f in findings if f.key == "enable-host-port"] == [""]


def test_nothing_given_gives_the_defaults() -> None:
    assert check_settings({}) == (Settings(), ())


@pytest.mark.parametrize(
    "key", [key for key in KEYS if key.default and not key.alias_of], ids=lambda k: k.name
)
def test_written_defaults_are_the_defaults(key: Key) -> None:
    settings, (finding,) = check_settings({key.name: key.default})
    assert settings == Settings() or key.name == "bpf-lb-map-max"
    assert finding.level in {"accepted", "ignored"}


@pytest.mark.parametrize(
    ("key", "value", "field", "expected"),
    [
        ("kube-proxy-replacement", "True", "services.kube_proxy_replacement", "true"),
        ("kube-proxy-replacement", True, "services.kube_proxy_replacement", "true"),
        ("kube-proxy-replacement", "0", "services.kube_proxy_replacement", "false"),
        ("enable-ipv6", False, "network.ipv6", False),
        ("bpf-lb-sock", "F", "sockets.load_balancing", False),
        ("bpf-ct-global-tcp-max", 1048576, "maps.flows", 1048576),
        ("bpf-ct-global-tcp-max", "16777216", "maps.flows", 16777216),
        ("bpf-fragments-map-max", "4096", "maps.fragments", 4096),
        ("enable-service-ping", "true", "services.answer_ping", True),
        ("bpf-ct-timeout-regular-tcp", "2h13m20s", "conntrack.tcp_timeout_ns", 8000 * NS_PER_S),
        ("bpf-ct-timeout-regular-any", "1.5s", "conntrack.any_timeout_ns", 1_500_000_000),
        ("node-port-range", "30000,31000", "node_ports.port_range", (30000, 31000)),
        ("devices", "eth0, eth1 bond+", "network.devices", ("eth0", "eth1", "bond+")),
        ("ipv4-native-routing-cidr", "", "routing.ipv4_native_cidr", None),
        ("nodeport-addresses", None, "node_ports.addresses", NodePortAddresses()),
        ("nodeport-addresses", "primary", "node_ports.addresses", NodePortAddresses(primary=True)),
        ("service-no-backend-response", "drop", "services.no_backend_response", "drop"),
        ("detect-local-mode", "NodeCIDR", "pods.detect_local_mode", "NodeCIDR"),
        ("metrics-bind-address", "", "http_ports.metrics", None),
        ("metrics-bind-address", ":9100", "http_ports.metrics", (UNSPECIFIED[4], 9100)),
        ("metrics-bind-address", "[::]:1", "http_ports.metrics", (UNSPECIFIED[6], 1)),
    ],
)
def test_values_are_read(key: str, value: object, field: str, expected: object) -> None:
    settings, (finding,) = check_settings({key: value})
    assert settings.value(field) == expected
    assert finding.level == "accepted"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kube-proxy-replacement", "full", 'expected "true" or "false"'),
        ("bpf-lb-sock", "yes", 'expected "true" or "false"'),
        ("bpf-lb-sock", "", 'expected "true" or "false"'),
        ("routing-mode", "tunnel", "kubypass has no tunnels"),
        ("tunnel", "vxlan", "kubypass has no tunnels"),
        ("ipv4-native-routing-cidr", "fd00::/64", "expected an IPv4 network"),
        ("ipv6-native-routing-cidr", "10.0.0.0/8", "expected an IPv6 network"),
        ("native-routing-cidr", "10.0.0.0", "expected an IPv4 network"),
        ("cluster-pool-ipv4-cidr", "10.0.0.0/8,fd00::/64", "expected an IPv4 network"),
        ("nodeport-addresses", "secondary", 'or "primary"'),
        (
            "service-cidrs",
            "10.0.0.0/8,10.1.0.0/16,10.2.0.0/16,10.3.0.0/16,fd00::/8",
            "expected at most 4",
        ),
        ("detect-local-mode", "guess", 'expected "InterfaceNamePrefix" or "ClusterCIDR"'),
        ("bpf-ct-global-tcp-max", "1023", "expected a whole number from 1024 to 16777216"),
        ("bpf-ct-global-tcp-max", "16777217", "expected a whole number"),
        ("bpf-ct-global-tcp-max", "1e6", "expected a whole number"),
        ("bpf-lb-map-max", "0", "expected a whole number"),
        ("bpf-ct-timeout-regular-tcp", "60", "expected a duration above zero"),
        ("bpf-ct-timeout-regular-tcp", "0s", "expected a duration above zero"),
        ("bpf-ct-timeout-regular-tcp", "9999999h", "expected a duration"),
        ("node-port-range", "32767,30000", 'expected "first,last"'),
        ("node-port-range", "30000", 'expected "first,last"'),
        ("devices", ["eth0"], "put it in quotes"),
        ("metrics-bind-address", "127.0.0.1", 'expected "address:port"'),
        ("metrics-bind-address", "::1:9100", 'expected "address:port"'),
        ("metrics-bind-address", "[127.0.0.1]:9100", 'expected "address:port"'),
        ("metrics-bind-address", "localhost:9100", 'expected "address:port"'),
        ("kube-proxy-replacement-healthz-bind-address", "0.0.0.0:0", "a port from 1 to 65535"),
        ("kube-proxy-replacement-healthz-bind-address", "0.0.0.0:65536", "a port from 1 to 65535"),
    ],
)
def test_wrong_values_say_what_is_allowed(key: str, value: object, message: str) -> None:
    settings, (finding,) = check_settings({key: value})
    assert finding.level == "wrong"
    assert message in finding.message
    assert str(finding).startswith(f"{key}: ")
    assert settings == Settings()


@pytest.mark.parametrize("value", ["strict", "probe", "partial", "disabled"])
def test_deprecated_words(value: str) -> None:
    settings, (finding,) = check_settings({"kube-proxy-replacement": value})
    assert settings.services.kube_proxy_replacement == value
    assert finding.level == "deprecated"
    assert "write" in finding.message


def test_deprecated_keys() -> None:
    settings, (finding,) = check_settings({"native-routing-cidr": "10.0.0.0/8"})
    assert str(settings.routing.ipv4_native_cidr) == "10.0.0.0/8"
    message = "write ipv4-native-routing-cidr"
    assert (finding.level, finding.message) == ("deprecated", message)
    assert check_settings({"tunnel": "disabled"})[1][0].level == "deprecated"


def test_the_new_key_counts_where_both_are_given() -> None:
    both = {"ipv4-native-routing-cidr": "10.1.0.0/16", "native-routing-cidr": "10.2.0.0/16"}
    for given in both, dict(reversed(both.items())):
        assert str(check_settings(given)[0].routing.ipv4_native_cidr) == "10.1.0.0/16"


def test_unknown_keys() -> None:
    _, findings = check_settings({"bpf-lb-socks": "true", "colour": "red", "bpf-root": "/run"})
    assert [(f.level, f.message) for f in findings] == [
        ("unknown", "unknown key; did you mean bpf-lb-sock?"),
        ("unknown", "unknown key; it has no effect"),
        ("accepted", "a key of Cilium's that kubypass does not need"),
    ]


def test_no_key_is_both_ours_and_without_effect() -> None:
    assert not CILIUM_KEYS & {key.name for key in KEYS}


@pytest.mark.parametrize(
    ("key", "text", "path", "value"),
    [
        ("bpf-lb-algorithm", "maglev", "balancing.algorithm", "maglev"),
        ("node-port-algorithm", "Maglev", "balancing.algorithm", "maglev"),
        ("bpf-lb-algorithm", "", "balancing.algorithm", "random"),
        ("bpf-lb-algorithm", "least-connections", "", 'expected "random" or "maglev"'),
        ("bpf-lb-maglev-table-size", "65521", "balancing.maglev_cells", 65521),
        ("bpf-lb-maglev-table-size", "16384", "", "expected one of 251, 509"),
        ("bpf-lb-maglev-hash-seed", "c2V2ZW4gZHdhcmZz", "balancing.maglev_seed", b"seven dwarfs"),
        ("bpf-lb-maglev-hash-seed", "c2V2ZW4gZHdhcmY=", "", "expected 12 bytes in base64"),
        ("bpf-lb-maglev-hash-seed", "not base64 at all", "", "head -c12 /dev/urandom | base64"),
        ("bpf-lb-maglev-map-max", "0", "maps.maglev", 0),
        ("bpf-lb-maglev-map-max", "2000", "maps.maglev", 2000),
        ("bpf-lb-maglev-map-max", "70000", "", "expected a whole number from 1024 to 65536, or 0"),
        ("bpf-lb-algorithm-annotation", "true", "balancing.by_annotation", True),
    ],
)
def test_selection_of_backends(key: str, text: str, path: str, value: object) -> None:
    settings, (finding, *_) = check_settings({key: text})
    if path:
        assert settings.value(path) == value
        assert finding.level != "wrong"
    else:
        assert finding.level == "wrong"
        assert str(value) in str(finding)


@pytest.mark.parametrize(
    ("given", "services", "backends"),
    [
        ({}, 65536, 262144),
        ({"bpf-lb-map-max": "131072"}, 131072, 131072),
        ({"bpf-lb-map-max": "131072", "bpf-lb-service-backend-map-max": "1024"}, 131072, 1024),
        ({"bpf-lb-service-backend-map-max": "0"}, 65536, 65536),
    ],
)
def test_map_sizes_inherit(given: dict[str, str], services: int, backends: int) -> None:
    settings, _ = check_settings(given)
    assert settings.maps.services == services
    assert settings.maps.backends == backends


@pytest.mark.parametrize(
    ("given", "node", "pods"),
    [
        ({}, True, True),
        ({"kube-proxy-replacement": "false"}, False, False),
        ({"kube-proxy-replacement": "false", "bpf-lb-sock": "true"}, True, True),
        ({"bpf-lb-sock": "false"}, False, False),
        ({"bpf-lb-sock-hostns-only": "true"}, True, False),
    ],
)
def test_where_sockets_are_load_balanced(given: dict[str, str], node: bool, pods: bool) -> None:
    settings, _ = check_settings(given)
    assert (settings.socket_lb, settings.socket_lb_pods) == (node, pods)
