# SPDX-License-Identifier: Apache-2.0
"""New connections of each kind of client, until each backend of a list was met."""

from __future__ import annotations

from scapy.packet import Packet

from kubypass.model.verdict import Verdict
from tests.packet.lab import SHOT
from tests.packet.objects import TARGET
from tests.packet.packets import Addresses, Flow, segment
from tests.packet.pipeline import TO_NETWORK_MACS, TO_POD_MACS, Pipeline
from tests.packet.raw import ends

DRAWS = 24
"""Connections until each of two backends was met, but for once in eight million times."""
OTHER_ADDRESS = {4: "192.168.9.9", 6: "fd00:9::9"}
HOOKS = {"pod": "from_pod", "node": "to_uplink", "outside": "from_uplink"}


def source_of(who: Addresses, client: str) -> str:
    """The node asks from an address that is not its primary one, so that one sees whether it is masqueraded."""
    return {"pod": who.pod, "node": OTHER_ADDRESS[who.version], "outside": who.client}[client]


def forwarded(
    who: Addresses, hook: str, sent: Flow, backend: str, masquerade: bool, protocol: str
) -> Packet:
    """The packet as it goes on to a backend."""
    source = who.node if masquerade else sent[0]
    pods = (who.pod, who.second_pod)
    destination, from_mac = TO_POD_MACS if backend in pods else TO_NETWORK_MACS
    return segment(
        who,
        (source, sent[1], backend, TARGET),
        protocol=protocol,
        smac=from_mac,
        dmac=destination,
        ttl=64 if hook == "to_uplink" else 63,
    )


def connect(
    pipeline: Pipeline,
    who: Addresses,
    client: str,
    frontend: tuple[str, int],
    protocol: str,
    port: int,
    masquerade: bool,
) -> str:
    """A new connection: the backend, once the whole packet was compared; or the name of the verdict."""
    hook, source = HOOKS[client], source_of(who, client)
    sent = (source, port, *frontend)
    seen = pipeline.run(hook, bytes(segment(who, sent, protocol=protocol)))
    if seen.verdict > Verdict.ANSWER:
        return "reject"
    if seen.verdict > Verdict.DROP:
        assert seen.code == SHOT
        return "drop" if seen.verdict == Verdict.DROP_NO_LOCAL_BACKEND else seen.verdict.name
    backend = ends(seen.packet).destination
    assert seen.packet == bytes(forwarded(who, hook, sent, backend, masquerade, protocol))
    return backend


def draw(
    pipeline: Pipeline,
    who: Addresses,
    client: str,
    frontend: tuple[str, int],
    protocol: str = "TCP",
    masquerade: bool = False,
) -> set[str]:
    """What many connections of a client get."""
    return {
        connect(pipeline, who, client, frontend, protocol, 40000 + number, masquerade)
        for number in range(DRAWS)
    }
