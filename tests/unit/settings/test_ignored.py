# SPDX-License-Identifier: Apache-2.0
"""Keys that ask for what kubypass does not do are warnings, and say what is lost."""

from __future__ import annotations

import pytest

from kubypass.settings.check import check_settings
from kubypass.settings.cilium_features import ALWAYS, FEATURE_KEYS, FEATURES
from kubypass.settings.cilium_keys import CILIUM_KEYS


@pytest.mark.parametrize(
    ("key", "value", "lost"),
    [
        ("enable-policy", "always", "enforces no NetworkPolicy"),
        ("enable-policy", "default", "enforces no NetworkPolicy"),
        ("enable-k8s-networkpolicy", "true", "enforces no NetworkPolicy"),
        ("enable-cilium-network-policy", True, "enforces no NetworkPolicy"),
        ("policy-audit-mode", "true", "enforces no NetworkPolicy"),
        ("enable-wireguard", "true", "encrypts nothing"),
        ("enable-wireguard", "1", "encrypts nothing"),
        ("enable-wireguard", "yes", "encrypts nothing"),
        ("enable-ipsec", "True", "encrypts nothing"),
        ("encrypt-node", "true", "encrypts nothing"),
        ("encryption-strict-mode-cidr", "10.0.0.0/8", "encrypts nothing"),
        ("enable-encryption-strict-mode", "true", "encrypts nothing"),
        ("enable-host-firewall", "true", "no host firewall"),
        ("enable-xdp-prefilter", "true", "drops no packet by a list"),
        ("mesh-auth-enabled", "true", "no mTLS"),
        ("enable-l7-proxy", "true", "no proxy for layer 7"),
        ("enable-bpf-tproxy", "true", "no proxy for layer 7"),
        ("enable-ipv4-egress-gateway", "true", "no egress gateway"),
        ("enable-bpf-masquerade", "false", "always masquerades in BPF"),
        ("egress-masquerade-interfaces", "eth0", "on every uplink"),
        ("enable-svc-source-range-check", "false", "cannot be switched off"),
        ("enable-external-ips", "0", "cannot be switched off"),
        ("direct-routing-device", "eth0", "the kernel's routes"),
    ],
)
def test_what_is_asked_for_in_vain(key: str, value: object, lost: str) -> None:
    _, (finding,) = check_settings({key: value})
    assert finding.level == "ignored"
    assert finding.message.startswith("no effect")
    assert lost in finding.message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("enable-policy", "never"),
        ("enable-wireguard", "false"),
        ("enable-wireguard", "F"),
        ("enable-ipsec", False),
        ("enable-ipsec", ""),
        ("encryption-strict-mode-cidr", ""),
        ("enable-ipv4-masquerade", "false"),
        ("enable-ipv4-masquerade", "true"),
        ("enable-bpf-masquerade", "true"),
        ("enable-masquerade-to-route-source", "true"),
        ("bpf-lb-mode", "snat"),
        ("bpf-lb-algorithm", "Random"),
        ("enable-svc-source-range-check", "true"),
        ("cluster-id", "0"),
        ("direct-routing-device", ""),
        ("debug", "true"),
    ],
)
def test_what_asks_for_nothing(key: str, value: object) -> None:
    _, (finding,) = check_settings({key: value})
    assert finding.level == "accepted"


def test_every_key_of_a_feature_is_cilium_s_and_is_in_one_of_them() -> None:
    keys = [key for feature in FEATURES for key in feature.keys.split()] + list(ALWAYS)
    assert len(keys) == len(set(keys))
    assert set(keys) == FEATURE_KEYS
    assert set(keys) <= CILIUM_KEYS


@pytest.mark.parametrize(
    "word",
    ["polic", "encrypt", "ipsec", "wireguard", "mesh-auth", "firewall", "strict", "tproxy", "l7"],
)
def test_no_switch_of_a_security_feature_is_just_accepted(word: str) -> None:
    quiet = {key for key in CILIUM_KEYS if word in key and key.startswith(("enable-", "encrypt"))}
    for key in quiet - {
        "enable-ipsec-key-watcher", "enable-policy-secrets-sync", "enable-non-default-deny-policies",
        "enable-local-redirect-policy",
    }:  # fmt: skip
        assert check_settings({key: "true"})[1][0].level == "ignored", key


@pytest.mark.parametrize(
    ("dispatch", "why"),
    [
        ("ipip", "IPIP has no place for the backend's port"),
        ("vxlan", 'expected "opt" or "geneve" or "auto"'),
    ],
)
def test_a_dispatch_that_is_not_there_is_refused(dispatch: str, why: str) -> None:
    """It is never accepted and then not done."""
    _, (finding,) = check_settings({"bpf-lb-dsr-dispatch": dispatch})
    assert finding.level == "wrong"
    assert why in finding.message
