# SPDX-License-Identifier: Apache-2.0
"""While connections of the version before are carried over: its programs handle what only they may know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from scapy.packet import Packet

from kubypass.datapath import previous_programs
from kubypass.model.verdict import Hook, ServiceFlag
from tests.packet.lab import PASS, REDIRECT, Lab, config
from tests.packet.map_entries import drive_devices
from tests.packet.packets import Addresses, segment

NODE_PORT, PORT = 30080, 8080
HOOKS = (Hook.FROM_POD, Hook.TO_POD, Hook.FROM_UPLINK, Hook.TO_UPLINK)


@pytest.fixture(scope="module")
def version_before(netns: str) -> Lab:
    made = Lab(netns)
    made.load(config())
    return made


@pytest.fixture
def before(lab: Lab, who: Addresses, version_before: Lab) -> Iterator[Lab]:
    """With the same services, and asked by `lab`. XDP rests meanwhile: the agent empties its table of devices."""
    drive_devices(lab.maps)
    version_before.reset()
    version_before.flags = lab.flags
    for one in (version_before, lab):
        for protocol in ("TCP", "UDP"):
            one.service(
                who.node,
                NODE_PORT,
                [who.remote_pod],
                flags=ServiceFlag.NODE_PORT,
                protocol=protocol,
            )
            one.service(who.service, 80, [who.second_pod], protocol=protocol)
    for hook in HOOKS:
        previous_programs.attach(
            lab.maps["previous_programs"], hook, version_before.programs[hook.name.lower()]
        )
    yield version_before
    previous_programs.detach(lab.maps["previous_programs"])


def asked(who: Addresses, **kind: Any) -> Packet:
    return segment(who, (who.client, 40000, who.node, NODE_PORT), **kind)


def reply_of(who: Addresses, before: Lab, **kind: Any) -> Packet:
    """What the remote backend sends to the node, of the one connection that is known."""
    (port,) = {key.destination_port for key in before.flows() if key.destination_port > NODE_PORT}
    return segment(who, (who.remote_pod, PORT, who.node, port), **kind)


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_connections_are_opened_there_and_known_from_here(
    lab: Lab, who: Addresses, before: Lab, protocol: str
) -> None:
    first = lab.run("from_uplink", asked(who, protocol=protocol, flags="S"))
    assert first.code == REDIRECT
    assert not first.counted  # by the other version
    assert not lab.flows()
    assert len(before.flows()) == 2
    reply = reply_of(who, before, protocol=protocol, flags="SA")
    expected = before.run("from_uplink", reply)
    assert expected.code == REDIRECT
    assert lab.run("from_uplink", reply).packet == expected.packet


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_once_every_link_is_ours_connections_are_opened_here(
    lab: Lab, who: Addresses, before: Lab, protocol: str
) -> None:
    lab.run("from_uplink", asked(who, protocol=protocol, flags="S"))
    previous_programs.stop_new(lab.maps["previous_programs"])
    reply = reply_of(who, before, protocol=protocol, flags="SA")
    assert lab.run("from_uplink", reply).code == REDIRECT
    another = segment(who, (who.client, 40001, who.node, NODE_PORT), protocol=protocol, flags="S")
    assert lab.run("from_uplink", another).counted
    assert len(lab.flows()) == 2
    assert len(before.flows()) == 2


def test_a_pod_s_replies_too(lab: Lab, who: Addresses, before: Lab) -> None:
    dial = (who.pod, 41000, who.service, 80)
    sent = segment(who, dial, flags="S")
    assert not lab.run("from_pod", sent).counted
    previous_programs.stop_new(lab.maps["previous_programs"])
    reply = segment(who, (who.second_pod, PORT, who.pod, 41000), flags="SA")
    expected = before.run("from_pod", reply)
    assert lab.run("from_pod", reply).packet == expected.packet
    assert not lab.flows()


def test_afterwards_nobody_is_asked(lab: Lab, who: Addresses, before: Lab) -> None:
    lab.run("from_uplink", asked(who, flags="S"))
    previous_programs.detach(lab.maps["previous_programs"])
    result = lab.run("from_uplink", reply_of(who, before, flags="SA"))
    assert result.code == PASS
    assert result.counted


@pytest.mark.parametrize("hook", ["to_pod", "to_uplink"])
def test_what_the_node_sends(lab: Lab, who: Addresses, before: Lab, hook: str) -> None:
    """No connection of a service's, so the other version may know it until the end."""
    to = who.pod if hook == "to_pod" else who.client
    sent = [
        segment(who, (who.node, 22, to, 40000), flags="S"),
        segment(who, (who.node, 22, to, 40000), flags="A"),
        segment(who, (who.node, 53, to, 40000), protocol="UDP"),
    ]
    assert not any(lab.run(hook, each).counted for each in sent)
    previous_programs.stop_new(lab.maps["previous_programs"])
    assert not any(lab.run(hook, each).counted for each in sent)
    assert not before.flows()


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_the_node_is_kept_apart_from_connections_that_only_we_know(
    lab: Lab, who: Addresses, before: Lab, protocol: str
) -> None:
    previous_programs.stop_new(lab.maps["previous_programs"])
    assert lab.run("from_uplink", asked(who, protocol=protocol, flags="S")).counted
    own = segment(who, (who.node, 40000, who.remote_pod, PORT), protocol=protocol, flags="S")
    result = lab.run("to_uplink", own)
    assert result.counted
    assert result.packet != bytes(own)
    assert not before.flows()
