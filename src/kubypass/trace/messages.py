# SPDX-License-Identifier: Apache-2.0
"""Words for decisions: what was decided, why, and what would change it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kubypass.datapath import layout
from kubypass.model.address import format_address, format_address_port
from kubypass.model.verdict import BackendList, ClientKind, Hook, ServiceFlag, Verdict
from kubypass.plan.explain import PortExplanation
from kubypass.trace.run import Answer, Run

ExplainPort = Callable[[int, BackendList], PortExplanation | None]
"""Explains the service port with this identifier, for the list that was chosen; None where it is not known."""

_KINDS = (
    (ServiceFlag.CLUSTER_IP, "ClusterIP"),
    (ServiceFlag.NODE_PORT, "NodePort"),
    (ServiceFlag.LOAD_BALANCER, "load balancer address"),
    (ServiceFlag.EXTERNAL_IP, "external address"),
    (ServiceFlag.HOST_PORT, "HostPort"),
)
_CLIENTS = {
    ClientKind.OUTSIDE: "outside",
    ClientKind.POD: "a pod",
    ClientKind.NODE: "this node",
}
WHY: Final = {
    Verdict.REJECT_NO_BACKEND: "no endpoint of the service is usable, on any node",
    Verdict.DROP_NO_BACKEND: "no endpoint of the service is usable, on any node "
    "(service-no-backend-response: drop)",
    Verdict.DROP_NO_LOCAL_BACKEND: "the traffic policy is Local, and the usable endpoints are on other nodes",
    Verdict.DROP_SOURCE_RANGE: "loadBalancerSourceRanges leave the client out",
    Verdict.DROP_EXTERNAL_CLUSTER_IP: "a ClusterIP is for clients in the cluster",
    Verdict.DROP_NO_SERVICE: "the address is reserved for services, and no service serves this there",
    Verdict.REJECT_NO_SERVICE: "the ClusterIP has no such port",
    Verdict.DROP_LOOP: "no service has this port of the address, and the network would send it back for ever",
    Verdict.DROP_FOREIGN_SOURCE: "the source is not an address of the pod (enable-source-ip-verification)",
    Verdict.DROP_MALFORMED: "the packet cannot be read, or a length or the checksum in its IP header is wrong",
    Verdict.FOREIGN: "no packet of a network comes from an address of this node, or from or to a loopback or "
    "unspecified one, or from a group; no service is looked up: the node's own stack judges it, and drops most",
    Verdict.DROP_TTL_EXPIRED: "its hops are used up",
    Verdict.DROP_NO_ROUTE: "the node has no route to its destination",
    Verdict.DROP_TOO_BIG: "it is too big for its route",
    Verdict.DROP_NO_SNAT_PORT: "no source port is free towards the backend",
    Verdict.DROP_FLOWS_FULL: "the map of flows is full",
    Verdict.DROP_DSR: "it has a DSR option that no node can have put on: it names no frontend in DSR mode that admits "
    "the sender, or the sender is in the cluster",
    Verdict.DROP_DSR_CLASH: "the client has another connection to the backend from the same port; the node that "
    "balances masquerades what the client repeats",
    Verdict.DROP_DSR_TUNNEL: "it is in Geneve with a DSR option, but no node of the cluster has sent it, or what is "
    "inside is not for an address of this node",
}
CHANGE: Final = {
    Verdict.REJECT_NO_BACKEND: "make one of its pods ready; or look why the selector finds none",
    Verdict.DROP_NO_BACKEND: "make one of its pods ready; or look why the selector finds none",
    Verdict.DROP_NO_LOCAL_BACKEND: "run a ready endpoint on this node, dial a node that has one, or set "
    "the traffic policy to Cluster",
    Verdict.DROP_SOURCE_RANGE: "add the client to spec.loadBalancerSourceRanges",
    Verdict.DROP_EXTERNAL_CLUSTER_IP: 'set bpf-lb-external-clusterip: "true", or use a NodePort',
    Verdict.DROP_NO_SERVICE: "look for the service's address: kubypass service list",
    Verdict.REJECT_NO_SERVICE: "look for the service's ports: kubypass service list",
    Verdict.DROP_LOOP: "look for the service's ports: kubypass service list",
    Verdict.DROP_FOREIGN_SOURCE: "send from an address of the pod; a router in a pod needs the annotation "
    "kubypass.io/foreign-sources: allowed",
    Verdict.DROP_NO_ROUTE: "add a route; kubypass does for other nodes' pods with auto-direct-node-routes",
    Verdict.DROP_NO_SNAT_PORT: "add ports with node-port-nat-range-ext, or spread the clients over more nodes or "
    "backends",
    Verdict.DROP_FLOWS_FULL: "raise bpf-ct-global-tcp-max",
    Verdict.DROP_DSR_TUNNEL: "if a node has sent it, look for its Node and the addresses there: kubypass status "
    "--verbose",
    Verdict.DROP_DSR: "where the option comes from another node: compare bpf-lb-mode and the Services of both nodes",
}


def frontend_kind(service: layout.Service) -> str:
    """Names the kind of frontend, such as ClusterIP or NodePort."""
    return next((name for flag, name in _KINDS if service.flags & flag), "frontend")


def client_words(decision: layout.DecisionRecord) -> str:
    """Names what the client counts as."""
    return _CLIENTS[ClientKind(decision.client_kind)]


def rule(decision: layout.DecisionRecord) -> str:
    """Names the rule that chose the list of candidates."""
    service = layout.Service.unpack(decision.service)
    name = "Local" if decision.list == BackendList.LOCAL else "Cluster"
    if service.flags & ServiceFlag.HOST_PORT:
        return "the pod that has the port"
    if service.flags & ServiceFlag.CLUSTER_IP:
        return f"internalTrafficPolicy {name}: the {name} list"
    if not service.flags & ServiceFlag.LOCAL:
        return "externalTrafficPolicy Cluster: the Cluster list"
    if decision.client_kind == ClientKind.OUTSIDE:
        return "externalTrafficPolicy Local, a client outside: the Local list"
    return (
        f"externalTrafficPolicy Local, but the client is {client_words(decision)}: the Cluster list"
    )


def selection_words(decision: layout.DecisionRecord) -> str:
    """Says how a backend of the list was selected; empty where that was at random."""
    service = layout.Service.unpack(decision.service)
    if not service.cells:
        return ""
    by = "client's address" if service.affinity_s else "connection's addresses and ports"
    if decision.hook == Hook.SOCKET:
        return f"Maglev, {service.cells} cells: the socket got a random one"
    return f"Maglev, {service.cells} cells: the {by} select the same one on every node"


def masquerade_words(found: Run) -> str:
    """Says whether the connection is masqueraded, and why."""
    decided = found.decided
    if not decided or not decided.decision or not found.backend:
        return ""
    if found.verdict == Verdict.DSR:
        return "the client's address is kept: the backend's node answers it (DSR)"
    if not decided.decision.masquerade:
        if found.lost_source:
            return "masqueraded: DSR is not possible with the backend's node (kubypass status --verbose says why)"
        return (
            "masqueraded: the backend is outside"
            if found.new_source
            else "the client's address is kept"
        )
    why = _why_masqueraded(found, decided.decision)
    if decided.hook == Hook.SOCKET:
        return f"kept by the socket, which has the backend's address itself (packets are masqueraded: {why})"
    return f"masqueraded: {why}"


def _why_masqueraded(found: Run, decision: layout.DecisionRecord) -> str:
    service = layout.Service.unpack(decision.service)
    if found.backend and found.backend[0] == decision.client:
        return "the client is its own backend"
    if not service.flags & ServiceFlag.CLUSTER_IP:
        return "the answer has to come back through this node"
    if decision.client_kind == ClientKind.POD:
        return "masquerade-all is on"
    return f"the client is {client_words(decision)}, not a pod"


def reason(found: Run, explain_port: ExplainPort) -> str:
    """Says in one sentence what was decided and why."""
    decided = found.decided
    if decided is None or decided.decision is None:
        return _without_service(found)
    decision = decided.decision
    service = layout.Service.unpack(decision.service)
    known = explain_port(service.id, BackendList(decision.list))
    name = (
        f"{frontend_kind(service)} of {known.service}:{known.port}"
        if known
        else frontend_kind(service)
    )
    if found.answer in {Answer.DROP, Answer.REJECT}:
        return f"{name}: {WHY.get(found.verdict, found.verdict.name.lower())}"
    backend = format_address_port(*found.backend) if found.backend else ""
    text = f"{name}; {rule(decision)}, {len(found.candidates)} endpoints; got {backend}"
    return f"{text}; {masquerade_words(found)}"


def _without_service(found: Run) -> str:
    destination = format_address_port(
        found.flow.destination, found.flow.destination_port, found.flow.protocol
    )
    if found.verdict == Verdict.FOREIGN:
        return f"{format_address(found.flow.source)} to {destination}: {WHY[found.verdict]}"
    if found.answer == Answer.ACCEPT:
        sender = found.new_source
        how = (
            f"masqueraded, from {format_address_port(*sender)}: it is outside"
            if sender
            else "as it is"
        )
        return f"{destination} is no frontend here: it goes on {how}, and its destination decides"
    if found.verdict == Verdict.DROP_FOREIGN_SOURCE:
        own = " ".join(map(format_address, found.own)) or "no address on this node"
        source = format_address(found.flow.source)
        return f"{source}: {WHY[found.verdict]}; the pod has {own}"
    return f"{format_address(found.flow.destination)}: {WHY.get(found.verdict, found.verdict.name.lower())}"
