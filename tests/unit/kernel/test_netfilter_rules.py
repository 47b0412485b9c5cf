# SPDX-License-Identifier: Apache-2.0
"""Rules that need connections of pods to be tracked are found, whichever program made them, and no others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

ASK = """
from ipaddress import ip_network
from kubypass.kernel.netfilter_rules import rules
from kubypass.node.no_conntrack import conflicts
print(conflicts(rules(), {4: [ip_network("10.233.64.0/18")], 6: [ip_network("fd85::/64")]}))
"""
CHAIN = (
    "table inet f { chain c { type filter hook forward priority 0; policy {policy};\n{rules}\n}\n}"
)
NAT = "table {family} n { chain c { type nat hook {hook} priority 0;\n{rule}\n}\n}"
EITHER = pytest.mark.parametrize("program", ["iptables", "iptables-legacy"])


def said(setup: str, script: str = "") -> str:
    """What the check says in a network namespace that commands, or a ruleset, have set up."""
    words = setup.split(maxsplit=1)[0] if setup else "nft"
    if os.geteuid() != 0 or shutil.which(words) is None:
        pytest.skip(f"needs root and {words}")
    shell = f'set -e\n{setup or "nft -f -"}\nexec "$@"'
    command = ["unshare", "-n", "sh", "-c", shell, "sh", sys.executable, "-c", ASK]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    if "not supported" in done.stderr:
        pytest.skip(f"this kernel has no such tables: {done.stderr.splitlines()[0]}")
    assert not done.returncode, done.stderr
    return done.stdout.strip()


@EITHER
@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("-t nat -A POSTROUTING -s 10.233.65.0/24 -j MASQUERADE", "POSTROUTING, rule"),
        ("-t nat -A POSTROUTING -j MASQUERADE", "(MASQUERADE)"),
        ("-t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to 10.233.64.9", "(DNAT)"),
        ("-t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE", ""),
        ("-t nat -A POSTROUTING ! -s 172.17.0.0/16 -j MASQUERADE", "(MASQUERADE)"),
        ("-t filter -A FORWARD -s 10.233.65.0/24 -j ACCEPT", ""),
    ],
)
def test_iptables(program: str, rule: str, found: str) -> None:
    text = said(f"{program} {rule}")
    assert found in text
    assert bool(text) == bool(found)


@EITHER
@pytest.mark.parametrize(
    ("states", "policy", "found"),
    [
        ("ESTABLISHED,RELATED", "DROP", "FORWARD, rule"),
        ("ESTABLISHED,RELATED,UNTRACKED", "DROP", ""),
        ("ESTABLISHED,RELATED", "ACCEPT", ""),
        ("INVALID", "DROP", ""),
    ],
)
def test_states_by_iptables(program: str, states: str, policy: str, found: str) -> None:
    """Replies pass by their connection where all else is dropped."""
    rule = f"FORWARD -m conntrack --ctstate {states} -j ACCEPT"
    text = said(f"{program} -P FORWARD {policy}; {program} -A {rule}")
    assert found in text
    assert bool(text) == bool(found)


def test_chains_of_kube_proxy_do_not_count() -> None:
    """What they translate, our programs have translated before."""
    setup = "iptables -t nat -N KUBE-SVC; iptables -t nat -A KUBE-SVC -j DNAT --to 10.233.64.9"
    assert said(setup) == ""


@pytest.mark.parametrize(
    ("policy", "rules", "found"),
    [
        ("drop", "ct state established,related accept", "inet f c, rule"),
        ("drop", "ct state established accept\nct state untracked accept", ""),
        ("drop", "ct state vmap { established : accept, invalid : drop }", "(ct state)"),
        ("accept", "ct state established accept", ""),
        ("accept", "ct state established accept\nip protocol tcp reject", "(ct state)"),
        ("drop", "ct state invalid drop", ""),
    ],
)
def test_states_by_nftables(policy: str, rules: str, found: str) -> None:
    text = said("", CHAIN.replace("{policy}", policy).replace("{rules}", rules))
    assert found in text
    assert bool(text) == bool(found)


@pytest.mark.parametrize(
    ("family", "hook", "rule", "found"),
    [
        ("ip", "postrouting", "ip saddr 10.233.64.0/24 snat to 192.0.2.1", "(nat)"),
        ("ip6", "postrouting", "ip6 saddr fd85::/80 masquerade", "(masq)"),
        ("inet", "postrouting", "ip saddr 172.17.0.0/16 masquerade", ""),
        ("ip", "prerouting", "ip saddr 192.0.2.0/24 dnat to 10.233.64.9", "(nat)"),
        ("ip", "prerouting", "ip saddr 192.0.2.0/24 dnat to 172.17.0.5", ""),
    ],
)
def test_translations_by_nftables(family: str, hook: str, rule: str, found: str) -> None:
    script = NAT.replace("{family}", family).replace("{hook}", hook).replace("{rule}", rule)
    text = said("", script)
    assert found in text
    assert bool(text) == bool(found)
