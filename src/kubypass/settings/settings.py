# SPDX-License-Identifier: Apache-2.0
"""Every setting, in groups. A field of a group carries its key, values, default and meaning.

The keys are those of Cilium's `cilium-config`. `docs/settings.md`, `kubypass config check` and the options of
`kubypass agent` come from `KEYS`. What the agent finds on the node is not here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kubypass.settings.balancing import BalancingSettings
from kubypass.settings.conntrack import ConntrackSettings
from kubypass.settings.dsr import DsrSettings
from kubypass.settings.http_ports import HttpPortSettings
from kubypass.settings.key import Key
from kubypass.settings.kubernetes import KubernetesSettings
from kubypass.settings.maps import MapSettings
from kubypass.settings.masquerade import MasqueradeSettings
from kubypass.settings.network import NetworkSettings
from kubypass.settings.node_ports import NodePortSettings
from kubypass.settings.pods import PodSettings
from kubypass.settings.routing import RoutingSettings
from kubypass.settings.services import ServiceSettings
from kubypass.settings.sockets import SocketSettings


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator asks for. The title of a group is its heading in docs/settings.md."""

    services: ServiceSettings = field(
        default_factory=ServiceSettings, metadata={"title": "Services"}
    )
    balancing: BalancingSettings = field(
        default_factory=BalancingSettings, metadata={"title": "Selection of backends"}
    )
    node_ports: NodePortSettings = field(
        default_factory=NodePortSettings, metadata={"title": "NodePorts"}
    )
    sockets: SocketSettings = field(default_factory=SocketSettings, metadata={"title": "Sockets"})
    network: NetworkSettings = field(
        default_factory=NetworkSettings, metadata={"title": "Families and devices"}
    )
    routing: RoutingSettings = field(default_factory=RoutingSettings, metadata={"title": "Routing"})
    pods: PodSettings = field(default_factory=PodSettings, metadata={"title": "Pods"})
    masquerade: MasqueradeSettings = field(
        default_factory=MasqueradeSettings, metadata={"title": "Masquerading"}
    )
    dsr: DsrSettings = field(
        default_factory=DsrSettings, metadata={"title": "Direct server return"}
    )
    conntrack: ConntrackSettings = field(
        default_factory=ConntrackSettings, metadata={"title": "Connection tracking"}
    )
    maps: MapSettings = field(default_factory=MapSettings, metadata={"title": "Map sizes"})
    kubernetes: KubernetesSettings = field(
        default_factory=KubernetesSettings, metadata={"title": "Kubernetes"}
    )
    http_ports: HttpPortSettings = field(
        default_factory=HttpPortSettings, metadata={"title": "Health and metrics"}
    )

    @property
    def socket_lb(self) -> bool:
        """Whether any sockets are load balanced."""
        wanted = self.sockets.load_balancing
        return self.services.with_external if wanted is None else wanted

    @property
    def acceleration(self) -> str:
        """The XDP that is used: none with legacy host routing, since netfilter would see a part of the packets only."""
        return "disabled" if self.routing.legacy_host else self.services.acceleration

    @property
    def socket_lb_pods(self) -> bool:
        """Whether pods' sockets are load balanced."""
        return self.socket_lb and not self.sockets.host_only

    def value(self, path: str) -> object:
        """Return the value at a Key's path, such as `sockets.host_only`."""
        group, name = path.split(".")
        return getattr(getattr(self, group), name)

    def with_values(self, values: Mapping[str, object]) -> Settings:
        """Return settings in which these values, by the paths of their keys, replace others."""
        changed: dict[str, dict[str, Any]] = {}
        for path, value in values.items():
            group, name = path.split(".")
            changed.setdefault(group, {})[name] = value
        groups: dict[str, Any] = {
            group: dataclasses.replace(getattr(self, group), **found)
            for group, found in changed.items()
        }
        return dataclasses.replace(self, **groups)


def _keys_of(group: dataclasses.Field[Any]) -> Iterator[Key]:
    for found in dataclasses.fields(getattr(Settings(), group.name)):
        yield dataclasses.replace(found.metadata["key"], path=f"{group.name}.{found.name}")


def _alias(name: str, target: Key) -> Key:
    return dataclasses.replace(target, name=name, alias_of=target.name)


GROUPS: Final[Mapping[str, tuple[Key, ...]]] = {
    group.metadata["title"]: tuple(_keys_of(group)) for group in dataclasses.fields(Settings)
}
"""Every key but the aliases, by the title of its group, in the order of docs/settings.md."""

_BY_NAME = {key.name: key for keys in GROUPS.values() for key in keys}

KEYS: Final[tuple[Key, ...]] = (
    *_BY_NAME.values(),
    _alias("native-routing-cidr", _BY_NAME["ipv4-native-routing-cidr"]),
    _alias("node-port-mode", _BY_NAME["bpf-lb-mode"]),
    _alias("node-port-algorithm", _BY_NAME["bpf-lb-algorithm"]),
    _alias("masquerade", _BY_NAME["enable-ipv4-masquerade"]),
    _alias("node-port-acceleration", _BY_NAME["bpf-lb-acceleration"]),
    _alias("enable-host-reachable-services", _BY_NAME["bpf-lb-sock"]),
)
"""Every key; the aliases are at the end."""
