# SPDX-License-Identifier: Apache-2.0
"""Builds the result of ADD in the version of the specification that the runtime asked for."""

from __future__ import annotations

from kubypass.cni.leases import Lease, format_mac
from kubypass.cni.link import GATEWAYS
from kubypass.cni.protocol import Request
from kubypass.model.address import family, format_address

_WITHOUT_VERSIONS = {"1.0.0", "1.1.0"}
_WITH_MTU = {"1.1.0"}
_BITS = {4: 32, 6: 128}
_ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


def add_result(request: Request, lease: Lease, mtu: int) -> dict[str, object]:
    """The success result: both ends, addresses, default routes, and DNS from the network configuration."""
    node: dict[str, object] = {"name": lease.interface, "mac": format_mac(lease.node_mac)}
    pod: dict[str, object] = {
        "name": lease.attachment.ifname,
        "mac": format_mac(lease.mac),
        "sandbox": request.netns,
    }
    ips: list[dict[str, object]] = []
    routes: list[dict[str, object]] = []
    for address in lease.addresses:
        version = family(address)
        gateway = format_address(GATEWAYS[version])
        text = f"{format_address(address)}/{_BITS[version]}"
        ips.append({"address": text, "gateway": gateway, "interface": 1})
        routes.append({"dst": _ANYWHERE[version], "gw": gateway})
        if request.version not in _WITHOUT_VERSIONS:
            ips[-1]["version"] = str(version)
    if request.version in _WITH_MTU:
        for entry in (node, pod, *routes):
            entry["mtu"] = mtu
    return {
        "cniVersion": request.version,
        "interfaces": [node, pod],
        "ips": ips,
        "routes": routes,
        "dns": request.config.get("dns", {}),
    }


def differs_from(previous: object, lease: Lease) -> str:
    """Says how `prevResult` of CHECK differs from this pod; empty where it does not."""
    if not isinstance(previous, dict):
        return "no prevResult in the network configuration"
    listed = previous.get("ips")
    ips = [ip for ip in listed if isinstance(ip, dict)] if isinstance(listed, list) else []
    previous_ips = {str(ip.get("address", "")).partition("/")[0] for ip in ips}
    missing = [text for text in map(format_address, lease.addresses) if text not in previous_ips]
    return f"prevResult does not have the address {missing[0]}" if missing else ""
