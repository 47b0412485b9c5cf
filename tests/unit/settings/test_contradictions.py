# SPDX-License-Identifier: Apache-2.0
"""Settings that contradict each other, or hold nonsense, are found at every key that has a part in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubypass.errors import ConfigError
from kubypass.settings.check import check_settings
from kubypass.settings.files import load_settings
from kubypass.settings.finding import Level
from kubypass.settings.settings import Settings

Given = dict[str, object]

WRONG: dict[str, tuple[Given, str]] = {
    "no family": ({"enable-ipv4": "false", "enable-ipv6": "false"}, "both families are off"),
    "both health ports": (
        {"kube-proxy-replacement-healthz-bind-address": "0.0.0.0:9879"},
        "kube-proxy-replacement-healthz-bind-address and agent-health-port are both on port 9879",
    ),
    "metrics on every address": ({"metrics-bind-address": "[::]:10256"}, "are both on port 10256"),
    "metrics below healthz": ({"metrics-bind-address": "127.0.0.1:10256"}, "are both on port 10256"),
    "metrics and the kubelet's probes": (
        {"metrics-bind-address": "127.0.0.1:9000", "agent-health-port": "9000"},
        "metrics-bind-address and agent-health-port are both on port 9000",
    ),
    "every port": ({"node-port-range": "1,65535"}, "leaves 0 of the ports from 1024 on"),
    "all ports from 1024 on": ({"node-port-range": "1024,65535"}, "leaves 0 of the ports"),
    "too few ports are left": ({"node-port-range": "5000,65535"}, "leaves 3976 of the ports"),
    "pods in the services' network": (
        {"cluster-pool-ipv4-cidr": "10.0.0.0/8", "service-cidrs": "10.96.0.0/12,fd00::/108"},
        "10.0.0.0/8 (cluster-pool-ipv4-cidr) and the services' network 10.96.0.0/12",
    ),
    "services in the pods' network": (
        {"cluster-pool-ipv6-cidr": "fd00:1::/48", "service-cidrs": "fd00:1::/108"}, "overlap; give each its own",
    ),
    "services everywhere": ({"service-cidrs": "0.0.0.0/0"}, "which are nobody's"),
    "services everywhere, IPv6": ({"service-cidrs": "::/0"}, "which are nobody's"),
    "pods on loopback": ({"cluster-pool-ipv4-cidr": "127.0.0.0/16"}, "which are nobody's"),
    "an API server's name": ({"k8s-api-server-urls": "https://"}, "is no address of an API server"),
    "another scheme": ({"k8s-api-server-urls": "ftp://10.0.0.1"}, "is no address of an API server"),
    "an address that is none": ({"k8s-api-server-urls": "https://10.0.0.300:6443"}, "is no address"),
    "a port that is none": ({"k8s-api-server-urls": "https://10.0.0.3:99999"}, "is no address"),
    "port 0": ({"k8s-api-server-urls": "https://10.0.0.3:0"}, "is no address"),
    "IPv6 without brackets": ({"k8s-api-server-urls": "https://fd00::1:6443"}, "IPv6 address in brackets"),
    "one of two URLs": ({"k8s-api-server-urls": "https://a:1,https://b:x"}, "'https://b:x' is no address"),
    "a device with a slash": ({"devices": "eth0,../eth1"}, "is no name of an uplink"),
    "a long device": ({"devices": "averylongdevice0"}, "at most 15 bytes"),
    "loopback": ({"devices": "lo"}, "not lo"),
    "every device": ({"devices": "+"}, "stands for every device"),
    "two devices for one": ({"direct-routing-device": "eth0,eth1"}, "expected one device"),
    "a negative size": ({"bpf-ct-global-tcp-max": "-1"}, "expected a whole number from 1024"),
    "a huge size": ({"bpf-sock-rev-map-max": "99999999999999999999"}, "expected a whole number"),
    "a negative timeout": ({"bpf-ct-timeout-regular-any": "-5s"}, "expected a duration above zero"),
    "hardly any timeout": ({"bpf-ct-timeout-regular-any": "1ns"}, "expected a duration from 1s to 8760h"),
    "a timeout for ever": ({"bpf-ct-timeout-regular-tcp": "90000h"}, "expected a duration from 1s"),
    "a heartbeat each microsecond": ({"k8s-heartbeat-timeout": "1us"}, "expected a duration from 1s to 24h"),
    "a large packet": ({"mtu": "70000"}, "expected a whole number from 576"),
    "no label's value": ({"k8s-service-proxy-name": "a b"}, "expected the value of a label"),
    "no taint": ({"agent-not-ready-taint-key": "a/b/c"}, "expected the key of a taint"),
    "SNAT from NodePorts": ({"node-port-nat-range-ext": "20000,40000"}, "outside of node-port-range"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_run_is_wrong(given: Given, message: str) -> None:
    settings, findings = check_settings(given)
    found = [finding for finding in findings if finding.level == "wrong"]
    assert found
    assert all(message in finding.message for finding in found)
    assert check_settings({})[0] == Settings()
    again = {key: value for key, value in given.items() if key not in {f.key for f in found}}
    assert settings == check_settings(again)[0]


def test_a_contradiction_is_told_at_every_key_of_it() -> None:
    given = {"enable-ipv4": "false", "mtu": "1400", "enable-ipv6": "false"}
    settings, findings = check_settings(given)
    assert [finding.level for finding in findings] == ["wrong", "accepted", "wrong"]
    assert settings.network.ipv4
    assert settings.network.ipv6
    assert settings.pods.mtu == 1400


def test_a_contradiction_stops_the_agent() -> None:
    with pytest.raises(ConfigError, match=r"node-port-range: '1,65535': leaves 0 of the ports"):
        load_settings(None, ["--node-port-range=1,65535"])


LESS: dict[str, tuple[Given, Level, str]] = {
    "healthz in the range": ({"node-port-range": "10000,32767"}, "doubtful", "port 10256 of kube-proxy"),
    "a server on a NodePort": ({"metrics-bind-address": "127.0.0.1:30100"}, "doubtful", "is in node-port-range"),
    "a network of both": (
        {"cluster-cidr": "10.0.0.0/8", "service-cidrs": "10.96.0.0/12"}, "doubtful", "overlap",
    ),
    "a small MTU": ({"mtu": "1000"}, "doubtful", "IPv6 needs 1280 bytes"),
    "no network for ClusterCIDR": ({"detect-local-mode": "ClusterCIDR"}, "doubtful", "no network is given"),
    "half open for longer": ({"bpf-ct-timeout-regular-tcp": "5s"}, "doubtful", "a whole one"),
    "a family that is off": (
        {"cluster-pool-ipv6-cidr": "fd00::/48", "enable-ipv6": False}, "ignored", "enable-ipv6 is false",
    ),
    "NodePorts are served all the same": ({"enable-node-port": "false"}, "ignored", 'with "partial" only'),
    "host ports of nobody": (
        {"kube-proxy-replacement": "false", "enable-host-port": "true"}, "ignored", 'is "false"; this key',
    ),
    "sockets of the node, but none": (
        {"bpf-lb-sock": "false", "bpf-lb-sock-hostns-only": "true"}, "ignored", "no sockets are load balanced",
    ),
    "DSR past netfilter": (
        {"enable-host-legacy-routing": "true", "bpf-lb-mode": "hybrid"}, "doubtful", "passes no netfilter rule",
    ),
    "no routes to skip": ({"direct-routing-skip-unreachable": "true"}, "ignored", "no routes are made"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "level", "message"), LESS.values(), ids=LESS)
def test_what_runs_and_needs_a_look(given: Given, level: Level, message: str) -> None:
    _, findings = check_settings(given)
    found = [finding for finding in findings if finding.level != "accepted"]
    assert found
    assert {finding.level for finding in found} == {level}
    assert all(message in finding.message for finding in found)


def test_good_neighbours() -> None:
    given: Given = {
        "metrics-bind-address": "127.0.0.1:10249",
        "kube-proxy-replacement-healthz-bind-address": "192.0.2.1:10249",
        "k8s-api-server-urls": "https://[fd00::1]:6443,10.0.0.1:6443,https://api.example.org/k8s/c-1",
        "devices": "eth0,bond0.100,enp+,日本",
        "service-cidrs": "10.96.0.0/12,fd00::/108",
        "cluster-pool-ipv4-cidr": "10.244.0.0/16",
        "node-port-range": "20000,40000",
    }
    assert {finding.level for finding in check_settings(given)[1]} == {"accepted"}


def test_a_key_that_is_written_twice(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("bpf-lb-sock: true\nmtu: 1400\nbpf-lb-sock: false\n")
    with pytest.raises(ConfigError, match="at line 3: bpf-lb-sock is written twice; remove one"):
        load_settings(tmp_path / "c.yaml")
