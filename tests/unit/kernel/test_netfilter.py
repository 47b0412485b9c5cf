# SPDX-License-Identifier: Apache-2.0
"""Rules in a network namespace of our own are found, whichever program made them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from kubypass.kernel.netfilter import HookedChain
from kubypass.node.bypassed_rules import name_bypassed

ASK = """
from kubypass.node.bypassed_rules import bypassed_rules
from kubypass.settings.settings import Settings
print(bypassed_rules(Settings()))
"""
NFT = """
table inet site {
  chain KUBE-SERVICES { accept; }
  chain incoming { type filter hook input priority 0; policy drop; tcp dport 22 accept; }
  chain between { type filter hook forward priority 0; policy drop; tcp dport 80 accept; udp dport 53 accept; }
  chain early { type filter hook prerouting priority -100; jump KUBE-SERVICES; }
}
table netdev fence { chain at { type filter hook ingress device "lo" priority 0; ip protocol icmp drop; }; }
table ip kube-proxy { chain filter-forward { type filter hook forward priority 0; accept; }; }
""".replace("; }", "\n}")
LEGACY = """
{0} -N KUBE-FORWARD; {0} -A FORWARD -j KUBE-FORWARD
{0} -N SITE; {0} -A FORWARD -j SITE; {0} -A FORWARD -p udp -j DROP; {0} -A INPUT -p udp -j DROP
{0} -A SITE -p tcp -j REJECT
{0} -P FORWARD DROP
"""


def said(setup: str) -> str:
    """What a process says in a network namespace that commands have set up."""
    script = f'set -e\n{setup}\nexec "$@"'
    words = ["unshare", "-n", "sh", "-c", script, "sh", sys.executable, "-c", ASK]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if "not supported" in done.stderr:
        pytest.skip(f"this kernel has no such tables: {done.stderr.splitlines()[0]}")
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def needs(program: str) -> None:
    if os.geteuid() != 0 or shutil.which(program) is None:
        pytest.skip(f"needs root and {program}")


def test_a_namespace_without_rules() -> None:
    needs("unshare")
    assert said("true") == ""


def test_rules_of_nftables() -> None:
    needs("nft")
    text = said(f"nft -f - <<'END'\n{NFT}\nEND")
    assert "inet site between (2 rules, policy drop)" in text
    assert "netdev fence at (1 rule)" in text
    for other in ("incoming", "early", "KUBE", "kube-proxy"):
        assert other not in text


@pytest.mark.parametrize(
    ("program", "family"), [("iptables-legacy", "ip"), ("ip6tables-legacy", "ip6")]
)
def test_rules_of_legacy_iptables(program: str, family: str) -> None:
    needs(program)
    text = said(LEGACY.format(program))
    assert f"{family} filter (legacy) FORWARD (2 rules, policy drop)" in text
    assert "INPUT" not in text


def test_many_chains_are_one_sentence() -> None:
    chains = [HookedChain("ip t", f"c{n}", "forward", 1, drops=False) for n in range(9)]
    text = name_bypassed(chains)
    assert "ip t c5 (1 rule) and 3 more; kubypass forwards" in text
    assert "c6" not in text
