# SPDX-License-Identifier: Apache-2.0
"""ADD, DEL, CHECK, STATUS and GC of this node's pods.

ADD: the address on disk, the link, then the node's programs and their endpoints, then the answer. With DEL the record
goes last. So whatever moment a process dies at, each address that something may use has a record, and what is done
again finds what was done.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Protocol

from kubypass.cni.addresses import next_address
from kubypass.cni.leases import INTERFACE_PREFIX, Lease, Leases
from kubypass.cni.link import faults, make_link
from kubypass.cni.node_config import Facts, exhausted, shortage, without_networks
from kubypass.cni.protocol import Attachment, Code, Request, attachments_in_use
from kubypass.cni.result import add_result, differs_from
from kubypass.errors import CniError, KernelError
from kubypass.kernel import veth
from kubypass.kernel.netlink import Link, Netlink
from kubypass.model.address import Address, family
from kubypass.model.cidr import Cidr


class Datapath(Protocol):
    """Where pods become reachable."""

    def connect(self, lease: Lease, link: Link) -> None:
        """Programs on the node's end, then the addresses; KernelError where that fails."""

    def disconnect(self, lease: Lease) -> None:
        """The reverse; what is not there is fine."""


class Commands:
    """One node's; calls follow one another."""

    def __init__(self, leases: Leases, datapath: Datapath, facts: Callable[[], Facts]) -> None:
        self.leases = leases
        self._datapath = datapath
        self._facts = facts

    def serve(self, request: Request, place: int | None) -> dict[str, object] | None:
        """What the runtime is told; `place` is the pod's network namespace. CniError says what is wrong."""
        if request.command == "ADD":
            return self._add(request, _entered(request, place))
        if request.command == "CHECK":
            self._check(request, _entered(request, place))
        elif request.command == "DEL":
            self.delete(request.attachment)
        elif request.command == "STATUS":
            self._status()
        else:
            self._collect(request)
        return None

    def _add(self, request: Request, place: int) -> dict[str, object]:
        if "prevResult" in request.config:
            message = "another plugin comes before kubypass-cni, which makes the interface itself"
            raise CniError(Code.INVALID_CONFIGURATION, message, "put it first in the list")
        facts, before = self._facts(), self.leases.find(request.attachment)
        with Netlink() as netlink:
            if before and not self._is_whole(netlink, before, place, facts):
                self.delete(request.attachment)
                before = None
            lease = before or self._reserve(netlink, request, facts)
            link = netlink.link(lease.interface) if before else None
            try:
                if link is None:
                    link = make_link(netlink, lease, place, facts.mtu, facts.sources)
                self._datapath.connect(lease, link)
            except (KernelError, OSError) as error:
                self.delete(request.attachment)
                raise CniError(
                    Code.TRY_AGAIN_LATER, f"cannot make the pod's link: {error}"
                ) from None
        return add_result(request, lease, link.mtu)

    def _is_whole(self, netlink: Netlink, lease: Lease, place: int, facts: Facts) -> bool:
        """An ADD that was done, whose answer was lost: it stays as it is. What is left of another one does not."""
        held = all(any(c.contains(a) for c in facts.pod_cidrs) for a in lease.addresses)
        return held and not faults(netlink, lease, place, facts.sources)

    def _reserve(self, netlink: Netlink, request: Request, facts: Facts) -> Lease:
        """New addresses, one of each family that the node has networks of."""
        if not facts.pod_cidrs:
            raise CniError(Code.TRY_AGAIN_LATER, *without_networks(facts))
        used = self.leases.used()
        versions = sorted({cidr.family for cidr in facts.pod_cidrs})
        addresses = tuple(self._free(netlink, facts.in_family(v), used) for v in versions)
        namespace, name, uid = request.pod
        container, network = request.attachment.container_id, str(request.config["name"])
        lease = Lease(
            request.attachment, network, namespace, name or container, uid, request.netns, addresses
        )
        self.leases.keep(lease)
        return lease

    def _free(self, netlink: Netlink, cidrs: list[Cidr], used: set[Address]) -> Address:
        """An address without a lease that no device of a pod has either: records can get lost."""
        taken = set(used)
        last = {family(address): address for address in self.leases.last}
        for cidr in cidrs:
            found = next_address(cidr, taken, last.get(cidr.family))
            while found and _is_routed(netlink, found):
                taken.add(found)
                found = next_address(cidr, taken, found)
            if found:
                return found
        raise CniError(Code.TRY_AGAIN_LATER, *exhausted(cidrs, taken))

    def delete(self, attachment: Attachment) -> None:
        """Takes a pod off the network; one that is gone is fine."""
        lease = self.leases.find(attachment) or Lease(attachment, "", "", "", "", "", ())
        try:
            with Netlink() as netlink:
                veth.delete(
                    netlink, lease.interface
                )  # its programs go with it, with one wait for RCU
            self._datapath.disconnect(lease)
        except KernelError as error:
            raise CniError(Code.TRY_AGAIN_LATER, f"cannot remove the pod's link: {error}") from None
        self.leases.release(attachment)

    def _check(self, request: Request, place: int) -> None:
        lease = self.leases.find(request.attachment)
        if lease is None:
            message = f"no pod of ours: {request.attachment.container_id}"
            raise CniError(Code.UNKNOWN_CONTAINER, message, "delete it and add it again")
        found = differs_from(request.config.get("prevResult"), lease)
        if not found:
            with Netlink() as netlink:
                found = "; ".join(faults(netlink, lease, place, self._facts().sources))
        if found:
            raise CniError(Code.NOT_AS_MADE, found, "restart the pod")

    def _status(self) -> None:
        problem = shortage(self._facts(), self.leases.used())
        if problem:
            raise CniError(Code.NOT_AVAILABLE, *problem)

    def _collect(self, request: Request) -> None:
        valid, network = attachments_in_use(request), request.config["name"]
        for lease in self.leases:
            if lease.network == network and lease.attachment not in valid:
                self.delete(lease.attachment)

    def release_stale(self, devices: Iterable[str]) -> list[Lease]:
        """Gives back what belongs to pods whose device is gone, as after a reboot; returns these leases."""
        present = set(devices)
        stale = [lease for lease in self.leases if lease.interface not in present]
        for lease in stale:
            self.delete(lease.attachment)
        return stale


def _entered(request: Request, place: int | None) -> int:
    if place is None:
        message = f"CNI_NETNS is {request.netns!r}; expected a network namespace that can be opened"
        raise CniError(Code.INVALID_ENVIRONMENT, message)
    return place


def _is_routed(netlink: Netlink, address: Address) -> bool:
    """Whether a pod's device leads there."""
    route = netlink.get_route(address[12:] if family(address) == 4 else address)
    if route is None:
        return False
    try:
        return socket.if_indextoname(route.ifindex).startswith(INTERFACE_PREFIX)
    except OSError:
        return False
