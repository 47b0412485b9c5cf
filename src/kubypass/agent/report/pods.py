# SPDX-License-Identifier: Apache-2.0
"""The rows of `kubypass pod list`: what is connected of each pod of this node, and how."""

from __future__ import annotations

from collections.abc import Iterable

from kubypass.agent.local_network import Network
from kubypass.kernel.netlink import Link
from kubypass.model.address import format_address
from kubypass.model.pod import Pod
from kubypass.model.problem import Problem
from kubypass.plan.foreign_sources import may_send_foreign
from kubypass.plan.socket_lb import is_excluded
from kubypass.settings.settings import Settings


def pod_rows(
    pods: Iterable[Pod], links: Iterable[Link], network: Network, settings: Settings
) -> list[dict[str, object]]:
    """A row for each pod, with its metadata; `links` are the node's devices as they are now.

    A pod is connected once its device, and no earlier one of the same name, has our programs.
    """
    present = {link.name: link for link in links}
    reasons = _by_subject(network.problems)
    rows: list[dict[str, object]] = []
    for pod in pods:
        link = present.get(pod.interface)
        connected = link is not None and network.has_programs(link)
        at_sockets = settings.socket_lb_pods and not is_excluded(pod, settings)
        any_source = not settings.pods.verify_sources or may_send_foreign(pod)
        reason = reasons.get(f"Pod {pod.namespace}/{pod.name}", "")
        rows.append({
            "namespace": pod.namespace,
            "name": pod.name,
            "uid": pod.uid,
            "addresses": [format_address(address) for address in pod.addresses],
            "device": pod.interface,
            "ifindex": link.index if link else None,
            "mtu": link.mtu if link else None,
            "connected": connected,
            "reason": reason or ("" if connected else _not_yet(link)),
            "socket_lb": "sockets" if at_sockets else "packets",
            "sources": "any" if any_source else "own",
        })  # fmt: skip
    return rows


def _not_yet(link: Link | None) -> str:
    return "its device has no programs yet" if link else "it has no device on this node"


def _by_subject(problems: Iterable[Problem]) -> dict[str, str]:
    return {problem.subject: problem.message for problem in problems}
