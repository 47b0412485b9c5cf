# SPDX-License-Identifier: Apache-2.0
"""Settings of pods: their network, and how they are told from clients outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubypass.settings.key import Kind, setting
from kubypass.settings.kinds import SWITCH
from kubypass.settings.parse import parse_choice, parse_cidrs, parse_family_cidrs, parse_size

if TYPE_CHECKING:
    from kubypass.model.cidr import Cidr

_DETECTORS = ("InterfaceNamePrefix", "ClusterCIDR", "NodeCIDR", "none")


@dataclass(frozen=True, slots=True)
class PodSettings:
    """The network of pods, and how they are told from clients outside."""

    mtu: int = setting(
        "mtu", Kind("bytes, 576 to 65535; 0: the uplink's", parse_size(576, 65535, inherit=True)), 0, "0",
        "Largest packet of pods. Running pods are changed too.", live=True,
    )  # fmt: skip
    cni_exclusive: bool = setting(
        "cni-exclusive", SWITCH, True, "true",
        "With --cni-conf-dir: configurations of other networks there are renamed to *.kubypass_bak. "
        "false: the first file by name counts.", live=True,
    )  # fmt: skip
    ipv4_pools: tuple[Cidr, ...] = setting(
        "cluster-pool-ipv4-cidr", Kind("IPv4 networks, with commas", parse_family_cidrs(4)), (), "",
        "Networks of the pods' addresses. They serve to find Services that overlap, and as the default of "
        "cluster-cidr; kubypass gives out addresses of the node's podCIDRs.",
    )  # fmt: skip
    ipv6_pools: tuple[Cidr, ...] = setting(
        "cluster-pool-ipv6-cidr", Kind("IPv6 networks, with commas", parse_family_cidrs(6)), (), "",
        "As cluster-pool-ipv4-cidr.",
    )  # fmt: skip
    verify_sources: bool = setting(
        "enable-source-ip-verification", SWITCH, True, "true",
        "Drops what a pod sends from an address that is not its own, and frames that are neither IP nor address "
        "resolution. The annotation kubypass.io/foreign-sources: allowed exempts a pod, such as a router.", live=True,
    )  # fmt: skip
    detect_local_mode: str = setting(
        "detect-local-mode", Kind("word", parse_choice(*_DETECTORS)), _DETECTORS[0], _DETECTORS[0],
        "How pods are told from clients outside: by the interface that their packets come from, by "
        "cluster-cidr, by the node's podCIDRs, or not at all. As kube-proxy's.", choices=_DETECTORS,
    )  # fmt: skip
    cluster_cidrs: tuple[Cidr, ...] = setting(
        "cluster-cidr", Kind("networks, with commas; of each family the first counts", parse_cidrs), (), "",
        "The pods' network for detect-local-mode: ClusterCIDR. Unset: as cluster-pool-ipv4-cidr and "
        "cluster-pool-ipv6-cidr.",
    )  # fmt: skip

    def local_networks(self) -> tuple[Cidr, ...]:
        """Where pods are, for detect-local-mode ClusterCIDR: the first network of each family."""
        found = self.cluster_cidrs or self.ipv4_pools + self.ipv6_pools
        return tuple({cidr.family: cidr for cidr in reversed(found)}.values())

    def pools(self) -> dict[str, tuple[Cidr, ...]]:
        """Networks of the pods by the key that gives them."""
        return {
            "cluster-pool-ipv4-cidr": self.ipv4_pools,
            "cluster-pool-ipv6-cidr": self.ipv6_pools,
        }
