# SPDX-License-Identifier: Apache-2.0
"""Names netfilter rules of others that packets of pods and services no longer pass: our programs come before them."""

from __future__ import annotations

from collections.abc import Iterable

from kubypass.kernel.netfilter import HookedChain, hooked_chains
from kubypass.model.printable import printable
from kubypass.settings.settings import Settings

_BYPASSED = frozenset({"prerouting", "forward", "postrouting", "ingress", "egress"})
_NAMED = 6
_KUBE_PROXY = "kube-proxy"


def bypassed_rules(settings: Settings) -> str:
    """One sentence on the rules of this network namespace; empty where there are none, or where the stack forwards."""
    return "" if settings.routing.legacy_host else name_bypassed(hooked_chains())


def name_bypassed(chains: Iterable[HookedChain]) -> str:
    """The sentence on these chains. What kube-proxy and the kubelet have made is left out. Pure."""
    found = [
        _chain(one)
        for one in chains
        if one.hook in _BYPASSED and (one.rules or one.drops) and _KUBE_PROXY not in one.table
    ]
    if not found:
        return ""
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return (
        f"netfilter rules that packets of pods and services do not pass: {', '.join(found[:_NAMED])}{more}; kubypass "
        "forwards at the device, before netfilter, so they hold for the node's own traffic only; with "
        "enable-host-legacy-routing they hold for pods too"
    )


def _chain(chain: HookedChain) -> str:
    rules = f"{chain.rules} rule" + ("" if chain.rules == 1 else "s")
    policy = ", policy drop" if chain.drops else ""
    return f"{printable(chain.table)} {printable(chain.name)} ({rules}{policy})"
