# SPDX-License-Identifier: Apache-2.0
"""Carries out ADD, DEL, CHECK, STATUS and GC for the pods of this node.

ADD writes the record with the pod's addresses, makes the link, sets up the datapath, and then answers. DEL removes the
record last. So every address in use has a record, whenever a process dies, and a repeated command finds what is done.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Protocol

from kubypass.cni.addresses import next_address
from kubypass.cni.leases import Lease, Leases
from kubypass.cni.link import faults, make_link
from kubypass.cni.node_config import NodeConfig, exhausted, shortage, without_networks
from kubypass.cni.protocol import Attachment, Code, Request, attachments_in_use
from kubypass.cni.result import add_result, differs_from
from kubypass.errors import CniError, KernelError
from kubypass.kernel import veth
from kubypass.kernel.netlink import Link, Netlink
from kubypass.model.address import Address, family
from kubypass.model.cidr import Cidr
from kubypass.model.pod import INTERFACE_PREFIX


class Datapath(Protocol):
    """Makes pods reachable."""

    def connect(self, lease: Lease, link: Link) -> None:
        """Attaches programs to the node's end, then enters the addresses; KernelError where that fails."""

    def disconnect(self, lease: Lease) -> None:
        """Undoes `connect`; a pod that is not connected is no error."""


class Commands:
    """The commands of one node. Calls do not overlap."""

    def __init__(self, leases: Leases, datapath: Datapath, node: Callable[[], NodeConfig]) -> None:
        self.leases = leases
        self._datapath = datapath
        self._node_config = node

    def serve(self, request: Request, netns_fd: int | None) -> dict[str, object] | None:
        """Returns the result for the runtime; CniError says what is wrong. `netns_fd` is the pod's namespace."""
        if request.command == "ADD":
            return self._add(request, _require_netns(request, netns_fd))
        if request.command == "CHECK":
            self._check(request, _require_netns(request, netns_fd))
        elif request.command == "DEL":
            self.delete(request.attachment)
        elif request.command == "STATUS":
            self._status()
        else:
            self._collect(request)
        return None

    def _add(self, request: Request, netns_fd: int) -> dict[str, object]:
        if "prevResult" in request.config:
            message = "another plugin comes before kubypass-cni, which makes the interface itself"
            raise CniError(Code.INVALID_CONFIGURATION, message, "put it first in the list")
        node, before = self._node_config(), self.leases.find(request.attachment)
        with Netlink() as netlink:
            if before and not self._is_complete(netlink, before, netns_fd, node):
                self.delete(request.attachment)
                before = None
            lease = before or self._reserve(netlink, request, node)
            link = netlink.link(lease.interface) if before else None
            try:
                if link is None:
                    link = make_link(netlink, lease, netns_fd, node.mtu, node.sources)
                self._datapath.connect(lease, link)
            except (KernelError, OSError) as error:
                self.delete(request.attachment)
                raise CniError(
                    Code.TRY_AGAIN_LATER, f"cannot make the pod's link: {error}"
                ) from None
        return add_result(request, lease, link.mtu)

    def _is_complete(self, netlink: Netlink, lease: Lease, netns_fd: int, node: NodeConfig) -> bool:
        """Whether an earlier ADD did everything and only its answer was lost. It then stays as it is."""
        within = all(any(c.contains(a) for c in node.pod_cidrs) for a in lease.addresses)
        return within and not faults(netlink, lease, netns_fd, node.sources)

    def _reserve(self, netlink: Netlink, request: Request, node: NodeConfig) -> Lease:
        """Leases new addresses: one of each family in which the node has pod networks."""
        if not node.pod_cidrs:
            raise CniError(Code.TRY_AGAIN_LATER, *without_networks(node))
        used = self.leases.used()
        versions = sorted({cidr.family for cidr in node.pod_cidrs})
        addresses = tuple(self._free(netlink, node.in_family(v), used) for v in versions)
        namespace, name, uid = request.pod
        container, network = request.attachment.container_id, str(request.config["name"])
        lease = Lease(
            request.attachment, network, namespace, name or container, uid, request.netns, addresses
        )
        self.leases.keep(lease)
        return lease

    def _free(self, netlink: Netlink, cidrs: list[Cidr], used: set[Address]) -> Address:
        """Finds an address that has no lease and no route to a pod's device: records can get lost."""
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
        """Removes a pod from the network; a pod that is gone is no error."""
        lease = self.leases.find(attachment) or Lease(attachment, "", "", "", "", "", ())
        try:
            with Netlink() as netlink:
                veth.delete(netlink, lease.interface)  # its programs go with it: one wait for RCU
            self._datapath.disconnect(lease)
        except KernelError as error:
            raise CniError(Code.TRY_AGAIN_LATER, f"cannot remove the pod's link: {error}") from None
        self.leases.release(attachment)

    def _check(self, request: Request, netns_fd: int) -> None:
        lease = self.leases.find(request.attachment)
        if lease is None:
            message = f"no pod of ours: {request.attachment.container_id}"
            raise CniError(Code.UNKNOWN_CONTAINER, message, "delete it and add it again")
        found = differs_from(request.config.get("prevResult"), lease)
        if not found:
            with Netlink() as netlink:
                found = "; ".join(faults(netlink, lease, netns_fd, self._node_config().sources))
        if found:
            raise CniError(Code.NOT_AS_MADE, found, "restart the pod")

    def _status(self) -> None:
        problem = shortage(self._node_config(), self.leases.used())
        if problem:
            raise CniError(Code.NOT_AVAILABLE, *problem)

    def _collect(self, request: Request) -> None:
        valid, network = attachments_in_use(request), request.config["name"]
        for lease in self.leases:
            if lease.network == network and lease.attachment not in valid:
                self.delete(lease.attachment)

    def release_stale(self, devices: Iterable[str]) -> list[Lease]:
        """Deletes pods whose device is gone, as after a reboot; returns their leases."""
        present = set(devices)
        stale = [lease for lease in self.leases if lease.interface not in present]
        for lease in stale:
            self.delete(lease.attachment)
        return stale


def _require_netns(request: Request, netns_fd: int | None) -> int:
    if netns_fd is None:
        message = f"CNI_NETNS is {request.netns!r}; expected a network namespace that can be opened"
        raise CniError(Code.INVALID_ENVIRONMENT, message)
    return netns_fd


def _is_routed(netlink: Netlink, address: Address) -> bool:
    """Whether the route to the address leads to a pod's device."""
    route = netlink.get_route(address[12:] if family(address) == 4 else address)
    if route is None:
        return False
    try:
        return socket.if_indextoname(route.ifindex).startswith(INTERFACE_PREFIX)
    except OSError:
        return False
