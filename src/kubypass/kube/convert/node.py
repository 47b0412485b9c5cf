# SPDX-License-Identifier: Apache-2.0
"""Converts Nodes. A bad part is left out and noted."""

from __future__ import annotations

from kubypass.kube import wire
from kubypass.kube.convert.fields import read_addresses
from kubypass.model.cidr import Cidr, parse_cidr
from kubypass.model.node import Node

ZONE_LABEL = "topology.kubernetes.io/zone"
LEAVING_TAINT = "ToBeDeletedByClusterAutoscaler"
_NAME_TYPES = {"Hostname", "InternalDNS", "ExternalDNS"}


def convert_node(source: wire.Node, notes: list[str]) -> Node:
    """The node, also if it has no addresses."""
    metadata = source.metadata or wire.Metadata()
    spec = source.spec or wire.NodeSpec()
    given = (source.status.addresses if source.status else None) or ()
    internal, external = (
        [entry.address for entry in given if entry.type == kind]
        for kind in ("InternalIP", "ExternalIP")
    )
    cidrs: list[Cidr] = []
    for text in spec.pod_cidrs or ([spec.pod_cidr] if spec.pod_cidr else []):
        try:
            cidrs.append(parse_cidr(text))
        except ValueError as error:
            notes.append(f"spec.podCIDRs: {error}; left out")
    taints = tuple(taint.key for taint in spec.taints or ())
    return Node(
        metadata.name,
        read_addresses("status.addresses", internal, notes),
        tuple(cidrs),
        tuple(entry.address for entry in given if entry.type in _NAME_TYPES),
        (metadata.labels or {}).get(ZONE_LABEL, ""),
        metadata.labels or {},
        leaving=bool(metadata.deletion_timestamp) or LEAVING_TAINT in taints,
        taints=taints,
        external_addresses=read_addresses("status.addresses", external, notes),
    )
