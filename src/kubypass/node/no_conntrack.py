# SPDX-License-Identifier: Apache-2.0
"""Connection tracking of netfilter skips packets of pods (`install-no-conntrack-iptables-rules`).

It is a table of our own in nftables, written without a program; where the kernel has no nftables, rules with a comment
of ours in the table raw of iptables. Rules of others are never touched. Those that need connections of pods to be
tracked would cease to work, so they are looked for first.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Collection, Iterable
from ipaddress import collapse_addresses, ip_address, ip_network
from shutil import which

from kubypass.errors import KernelError
from kubypass.kernel import nf_tables
from kubypass.kernel.netfilter_rules import ESTABLISHED, UNTRACKED, Rule
from kubypass.kernel.nf_tables import Network
from kubypass.model.cidr import Cidr
from kubypass.model.printable import printable
from kubypass.node.record import Change, Kind, Record

TABLE = "kubypass"
_NFTABLES, _IPTABLES = "nftables", "iptables"
_COMMENT = "kubypass: pods are not tracked"
_PROGRAMS = {4: "iptables", 6: "ip6tables"}
_NAMED = 3
_S = 10.0


def networks_by_family(networks: Collection[Cidr]) -> dict[int, list[Network]]:
    """The networks without overlaps, by family."""
    found: dict[int, list[Network]] = {}
    for version in _PROGRAMS:
        some = [ip_network(str(cidr)) for cidr in networks if cidr.family == version]
        found[version] = sorted(collapse_addresses(some))  # type: ignore[type-var]
    return found


def install(record: Record, networks: dict[int, list[Network]]) -> str:
    """Has the kernel skip these networks; returns by which means."""
    if nf_tables.generation() is not None:
        record.add(Change(Kind.NO_CONNTRACK, _NFTABLES))
        nf_tables.write_no_conntrack(TABLE, networks)
        return _NFTABLES
    if not any(which(program) for program in _PROGRAMS.values()):
        hint = "install iptables on the node, or use a kernel with CONFIG_NF_TABLES"
        raise KernelError("find", "nftables in this kernel, or the program iptables", 0, hint)
    record.add(Change(Kind.NO_CONNTRACK, _IPTABLES))
    for version, some in networks.items():
        program = _PROGRAMS[version]
        present = _iptables_rules(program)
        wanted = [rule for network in some for rule in _rules_of(network)]
        for rule in wanted:
            if rule not in present:
                _iptables(program, "-A", *rule)
        for rule in present:
            if rule not in wanted:
                _iptables(program, "-D", *rule)
    return _IPTABLES


def is_intact(networks: dict[int, list[Network]]) -> bool:
    """Whether everything that `install` has written for these networks is there."""
    if nf_tables.generation() is not None:
        return nf_tables.count_rules(TABLE) == nf_tables.no_conntrack_rules()
    return all(
        set(_iptables_rules(_PROGRAMS[v])) == {rule for one in some for rule in _rules_of(one)}
        for v, some in networks.items()
    )


def remove_no_conntrack(change: Change) -> list[str]:
    """Takes our rules away."""
    if change.subject == _NFTABLES:
        return [f"removed nftables table inet {TABLE}"] if nf_tables.remove_table(TABLE) else []
    done = []
    for program in filter(which, _PROGRAMS.values()):
        rules = _iptables_rules(program)
        for rule in rules:
            _iptables(program, "-D", *rule)
        done += [f"removed {len(rules)} rules of {program}, table raw"] if rules else []
    return done


def conflicts(rules: Iterable[Rule], networks: dict[int, list[Network]]) -> str:
    """Names the rules of others that need packets of pods to be tracked; empty where there are none. Pure."""
    theirs = [one for one in rules if _is_foreign(one)]
    tables = {one.table for one in theirs if one.drops}
    aware = {one.table for one in theirs if one.states & UNTRACKED and one.states.bit_count() < 8}
    found = [f"{one} ({one.translation})" for one in theirs if _translates(one, networks)]
    found += [
        f"{one} (ct state)"
        for one in theirs
        if one.states & ESTABLISHED and one.table in tables and one.table not in aware
    ]
    if not found:
        return ""
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    named = ", ".join(printable(text) for text in found[:_NAMED]) + more
    return (
        f"rules of others need connections of pods to be tracked: {named}; confine them to other addresses, have "
        "them accept untracked packets, or remove them"
    )


def _is_foreign(rule: Rule) -> bool:
    """Not ours, and not of kube-proxy or the kubelet: what these translate, we have translated before."""
    ours = rule.table == f"inet {TABLE}" or "kube-proxy" in rule.table
    return not ours and not rule.chain.startswith(("KUBE-", "CILIUM_"))


def _translates(rule: Rule, networks: dict[int, list[Network]]) -> bool:
    """Whether a rule may translate packets of pods, or to pods."""
    if not rule.translation:
        return False
    source = rule.source
    pods = [network for some in networks.values() for network in some]
    if source is None or any(
        one.version == source.version and one.overlaps(source) for one in pods
    ):
        return True
    return any(
        len(raw) in (4, 16) and any(ip_address(raw) in network for network in pods)
        for raw in rule.addresses
    )


_Words = tuple[str, ...]


def _rules_of(network: Network) -> list[_Words]:
    return [
        (chain, way, str(network), "-m", "comment", "--comment", _COMMENT, "-j", "CT", "--notrack")
        for chain in ("PREROUTING", "OUTPUT")
        for way in ("-s", "-d")
    ]


def _iptables_rules(program: str) -> list[_Words]:
    """Our rules in the table raw, as words."""
    said = _iptables(program, "-S") if which(program) else ""
    return [
        tuple(shlex.split(line)[1:])
        for line in said.splitlines()
        if line.startswith("-A ") and _COMMENT in line
    ]


def _iptables(program: str, *words: str) -> str:
    command = [program, "-w", "5", "-t", "raw", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError("run", program, 0, str(error)) from None
    if done.returncode:
        raise KernelError("run", " ".join(command), 0, done.stderr.strip())
    return done.stdout
