# SPDX-License-Identifier: Apache-2.0
"""DSR while backends, frontends and nodes change: what clients' later packets reach, at both nodes."""

from __future__ import annotations

from typing import Any

import pytest

from kubypass.datapath import layout
from kubypass.model.address import UNSPECIFIED, family, parse_address
from kubypass.model.verdict import DsrDispatch, DsrRefusal, Hook, ServiceFlag, Verdict
from tests.packet.dsr import PORT, TARGET, backend, balancer, peers, refused, told
from tests.packet.lab import NUMBERS, REDIRECT, SHOT, Lab, Result
from tests.packet.packets import IN, TO_NETWORK, TO_POD, Addresses, Flow, segment
from tests.packet.snat import tuple_of

CLIENT = 40000
FRONTENDS = pytest.mark.parametrize("frontend", ["node port", "load balancer"])
BALANCED = ServiceFlag.LOAD_BALANCER | ServiceFlag.DSR


def named(who: Addresses, frontend: str) -> tuple[str, int]:
    return {"node port": (who.other_node, PORT), "load balancer": (who.service, 80)}[frontend]


def remove_frontend(lab: Lab, address: str, port: int, protocol: str) -> None:
    """The service is deleted, or has this frontend no more."""
    found = parse_address(address)
    for key in (found, UNSPECIFIED[family(found)]):
        raw = layout.TransportAddress(key, port, NUMBERS[protocol]).pack()
        lab.maps["services"].delete_batch(raw, 1)


def handshake(lab: Lab, who: Addresses, pod: str, frontend: tuple[str, int], first: int) -> None:
    """A connection that the other node has balanced."""
    there, back = (who.client, CLIENT, pod, TARGET), (pod, TARGET, who.client, CLIENT)
    lab.run("from_uplink", told(who, there, frontend, seq=first, payload=""))
    lab.run("from_pod", segment(who, back, flags="SA", seq=70, ack=first + 1, payload="", **IN))
    lab.run("from_uplink", segment(who, there, flags="A", seq=first + 1, ack=71, payload="", **IN))


def finish(lab: Lab, who: Addresses, pod: str, first: int) -> None:
    """Both sides of it end."""
    there, back = (who.client, CLIENT, pod, TARGET), (pod, TARGET, who.client, CLIENT)
    more: dict[str, Any] = {"payload": "", **IN}
    lab.run("from_uplink", segment(who, there, flags="FA", seq=first + 1, ack=71, **more))
    lab.run("from_pod", segment(who, back, flags="FA", seq=71, ack=first + 2, **more))
    lab.run("from_uplink", segment(who, there, flags="A", seq=first + 2, ack=72, **more))


def arrives(result: Result, who: Addresses, flow: Flow, **more: Any) -> None:
    """The pod gets the packet, and nothing but it."""
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.TO_POD): 1}
    assert (result.code, result.packet) == (REDIRECT, bytes(segment(who, flow, **more, **TO_POD)))


@FRONTENDS
def test_datagrams_follow_to_another_backend(
    netns: str, lab: Lab, who: Addresses, frontend: str
) -> None:
    """The node that balances has chosen another pod of the node. Client, port and frontend are the same."""
    lab, to = backend(netns, lab.flags, who, "UDP"), named(who, frontend)
    for pod in (who.pod, who.second_pod, who.pod, who.second_pod):
        there = (who.client, CLIENT, pod, TARGET)
        for _ in range(2):
            result = lab.run("from_uplink", told(who, there, to, protocol="UDP"))
            arrives(result, who, there, protocol="UDP")
        back = (pod, TARGET, who.client, CLIENT)
        result = lab.run("from_pod", segment(who, back, protocol="UDP", **IN))
        seen = segment(who, (*to, who.client, CLIENT), protocol="UDP", **TO_NETWORK)
        assert result.packet == bytes(seen)


@FRONTENDS
def test_a_port_used_again_reaches_another_backend(
    netns: str, lab: Lab, who: Addresses, frontend: str
) -> None:
    """A TCP connection is over; its client dials again, and the other node has chosen another pod."""
    lab, to = backend(netns, lab.flags, who, "TCP"), named(who, frontend)
    handshake(lab, who, who.pod, to, 100)
    finish(lab, who, who.pod, 100)
    handshake(lab, who, who.second_pod, to, 9000)
    there, more = (
        (who.client, CLIENT, who.second_pod, TARGET),
        {"flags": "PA", "seq": 9001, "ack": 71},
    )
    arrives(lab.run("from_uplink", segment(who, there, **more, **IN)), who, there, **more)
    if frontend == "load balancer":  # the network has moved the connection to this node
        direct = segment(who, (who.client, CLIENT, *to), **more, **IN)
        arrives(lab.run("from_uplink", direct), who, there, **more)


@FRONTENDS
def test_known_connections_outlive_their_frontend(
    netns: str, lab: Lab, who: Addresses, protocol: str, frontend: str
) -> None:
    """A service that is deleted, or leaves DSR mode, ends what is new and not what is open, as without DSR."""
    lab, to = backend(netns, lab.flags, who, protocol), named(who, frontend)
    there = (who.client, CLIENT, who.pod, TARGET)
    if protocol == "TCP":
        handshake(lab, who, who.pod, to, 100)
    else:
        lab.run("from_uplink", told(who, there, to, protocol=protocol))
    remove_frontend(lab, *to, protocol)
    more: dict[str, Any] = {"protocol": protocol, "flags": "PA", "seq": 101, "ack": 71}
    arrives(lab.run("from_uplink", told(who, there, to, **more)), who, there, **more)
    back = segment(who, (who.pod, TARGET, who.client, CLIENT), protocol=protocol, flags="A", **IN)
    assert tuple_of(lab.run("from_pod", back).packet) == (*to, who.client, CLIENT)
    other = (who.client, CLIENT + 1, who.pod, TARGET)
    result = lab.run("from_uplink", told(who, other, to, protocol=protocol))
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.DROP_DSR): 1}


def test_datagrams_with_another_port_outlive_their_frontend(
    netns: str, lab: Lab, who: Addresses
) -> None:
    lab, there = backend(netns, lab.flags, who, "UDP"), (who.client, CLIENT, who.pod, TARGET)
    first, second = (who.service, 80), (who.other_node, PORT)
    lab.run("from_uplink", told(who, there, first, protocol="UDP"))
    before = lab.run("from_uplink", told(who, there, second, protocol="UDP")).packet
    remove_frontend(lab, *second, "UDP")
    after = lab.run("from_uplink", told(who, there, second, protocol="UDP"))
    assert (after.code, after.packet) == (REDIRECT, before)
    assert tuple_of(before)[1] != CLIENT


def test_datagrams_that_come_without_another_node_are_balanced_here(
    netns: str, lab: Lab, who: Addresses
) -> None:
    """The network has moved them to this node, and the pod to which the other node sent them is an endpoint no more."""
    lab = backend(netns, lab.flags, who, "UDP")
    old, to = (who.client, CLIENT, who.pod, TARGET), (who.service, 80)
    lab.run("from_uplink", told(who, old, to, protocol="UDP"))
    lab.service(*to, [who.second_pod], protocol="UDP", flags=BALANCED, target=TARGET)
    new = (who.client, CLIENT, who.second_pod, TARGET)
    for _ in range(2):
        direct = segment(who, (who.client, CLIENT, *to), protocol="UDP", **IN)
        arrives(lab.run("from_uplink", direct), who, new, protocol="UDP")
    back = segment(who, (who.second_pod, TARGET, who.client, CLIENT), protocol="UDP", **IN)
    assert tuple_of(lab.run("from_pod", back).packet) == (*to, who.client, CLIENT)


def test_a_port_used_again_without_another_node_is_balanced_here(
    netns: str, lab: Lab, who: Addresses
) -> None:
    """While the connection is open, a SYN is for the pod to judge; once it is over, one opens another connection."""
    lab, to = backend(netns, lab.flags, who, "TCP"), (who.service, 80)
    handshake(lab, who, who.pod, to, 100)
    lab.service(*to, [who.second_pod], flags=BALANCED, target=TARGET)
    direct = segment(who, (who.client, CLIENT, *to), seq=9000, payload="", **IN)
    old, new = ((who.client, CLIENT, pod, TARGET) for pod in (who.pod, who.second_pod))
    arrives(lab.run("from_uplink", direct), who, old, seq=9000, payload="")
    finish(lab, who, who.pod, 100)
    arrives(lab.run("from_uplink", direct), who, new, seq=9000, payload="")


def test_a_connection_of_this_node_that_another_one_takes_over(
    netns: str, lab: Lab, who: Addresses, protocol: str
) -> None:
    """The node has balanced it to its own pod; then the network moves it to a node that names the same pod."""
    lab, to = backend(netns, lab.flags, who, protocol), (who.service, 80)
    here, there = (who.client, CLIENT, *to), (who.client, CLIENT, who.pod, TARGET)
    back = (who.pod, TARGET, who.client, CLIENT)
    lab.run("from_uplink", segment(who, here, protocol=protocol, payload="", **IN))
    answer = {"protocol": protocol, "payload": "", "flags": "SA", "seq": 70, "ack": 101}
    lab.run("from_pod", segment(who, back, **answer, **IN))
    more: dict[str, Any] = {"protocol": protocol, "flags": "A", "seq": 101, "ack": 71}
    lab.run("from_uplink", segment(who, here, **more, **IN))
    arrives(lab.run("from_uplink", told(who, there, to, **more)), who, there, **more)
    more |= {"seq": 106}
    arrives(lab.run("from_uplink", segment(who, there, **more, **IN)), who, there, **more)
    back_again = segment(who, back, protocol=protocol, flags="PA", seq=71, ack=111, **IN)
    assert tuple_of(lab.run("from_pod", back_again).packet) == (*to, who.client, CLIENT)
    more |= {"seq": 111}  # and back to this node
    arrives(lab.run("from_uplink", segment(who, here, **more, **IN)), who, there, **more)


def test_a_port_used_again_after_a_connection_of_this_node(
    netns: str, lab: Lab, who: Addresses
) -> None:
    """The node has balanced a connection that is over; another node has the next one from the client's port."""
    lab, to = backend(netns, lab.flags, who, "TCP"), (who.service, 80)
    here, back = (who.client, CLIENT, *to), (who.pod, TARGET, who.client, CLIENT)
    for hook, flow, flags, seq, ack in (
        ("from_uplink", here, "S", 100, 0),
        ("from_pod", back, "SA", 70, 101),
        ("from_uplink", here, "A", 101, 71),
        ("from_uplink", here, "FA", 101, 71),
        ("from_pod", back, "FA", 71, 102),
        ("from_uplink", here, "A", 102, 72),
    ):
        lab.run(hook, segment(who, flow, flags=flags, seq=seq, ack=ack, payload="", **IN))
    handshake(lab, who, who.second_pod, to, 9000)
    more: dict[str, Any] = {"flags": "PA", "seq": 9001, "ack": 71}
    there = (who.client, CLIENT, who.second_pod, TARGET)
    arrives(lab.run("from_uplink", segment(who, here, **more, **IN)), who, there, **more)


def test_datagrams_follow_what_is_known_of_the_way(netns: str, lab: Lab, who: Addresses) -> None:
    """A path that begins to drop the option: those of an open flow are masqueraded from then on, for good."""
    lab = balancer(netns, lab.flags, who, "UDP")
    sent = segment(who, (who.client, CLIENT, who.node, PORT), protocol="UDP", **IN)
    other = segment(who, (who.client, CLIENT + 1, who.node, PORT), protocol="UDP", **IN)
    before = refused(lab, DsrRefusal.REFUSED_PEER)
    assert tuple_of(lab.run("from_uplink", sent).packet)[0] == who.client
    peers(lab, DsrDispatch.NONE)
    masqueraded = lab.run("from_uplink", sent)
    source, port, *to = tuple_of(masqueraded.packet)
    assert (source, to) == (who.node, [who.remote_pod, TARGET])
    assert dict(masqueraded.counted) == {(Hook.FROM_UPLINK, Verdict.TO_NETWORK): 1}
    assert refused(lab, DsrRefusal.REFUSED_PEER) == before + 1
    back = segment(who, (who.remote_pod, TARGET, who.node, port), protocol="UDP", **IN)
    assert tuple_of(lab.run("from_uplink", back).packet) == (who.node, PORT, who.client, CLIENT)
    peers(lab)
    assert lab.run("from_uplink", sent).packet == masqueraded.packet
    assert tuple_of(lab.run("from_uplink", other).packet)[0] == who.client


def test_segments_stay_on_their_way(netns: str, lab: Lab, who: Addresses) -> None:
    """An open TCP connection has no option that a path could drop."""
    lab = balancer(netns, lab.flags, who, "TCP")
    lab.run("from_uplink", segment(who, (who.client, CLIENT, who.node, PORT), payload="", **IN))
    more: dict[str, Any] = {"flags": "A", "seq": 101, "ack": 71}
    for dispatch in (DsrDispatch.NONE, DsrDispatch.OPTION):
        peers(lab, dispatch)
        sent = segment(who, (who.client, CLIENT, who.node, PORT), **more, **IN)
        result = lab.run("from_uplink", sent)
        there = (who.client, CLIENT, who.remote_pod, TARGET)
        assert result.packet == bytes(segment(who, there, **more, **TO_NETWORK))


def test_a_syn_may_acknowledge_anything(netns: str, lab: Lab, who: Addresses) -> None:
    """Its number counts for nothing: the SYN is repeated as often in DSR mode as any other."""
    lab = balancer(netns, lab.flags, who, "TCP")
    sent = segment(who, (who.client, CLIENT, who.node, PORT), ack=0xDEADBEEF, **IN)
    found = [tuple_of(lab.run("from_uplink", sent).packet)[0] for _ in range(4)]
    assert found == [who.client] * 3 + [who.node]


@pytest.mark.parametrize("moves", ["to this node", "to the other node"])
def test_datagrams_of_the_node_that_balances_move(
    netns: str, lab: Lab, who: Addresses, moves: str
) -> None:
    """The flow's backend leaves its service, and the next one is on the other side."""
    lab = balancer(netns, lab.flags, who, "UDP")
    flags = ServiceFlag.NODE_PORT | ServiceFlag.DSR
    order = [who.pod, who.remote_pod]
    for pod in order if moves == "to the other node" else reversed(order):
        (number,) = lab.service(who.node, 30081, [pod], protocol="UDP", flags=flags, target=TARGET)
        there = (who.client, CLIENT, pod, TARGET)
        for _ in range(2):
            sent = segment(who, (who.client, CLIENT, who.node, 30081), protocol="UDP", **IN)
            result = lab.run("from_uplink", sent)
            if pod == who.pod:
                arrives(result, who, there, protocol="UDP")
                continue
            wanted = told(who, there, (who.node, 30081), TO_NETWORK, protocol="UDP")
            assert (result.code, result.packet) == (REDIRECT, bytes(wanted))
        lab.remove_backend(number)


def test_a_refusal_is_of_its_own_packet(
    netns: str, lab: Lab, who: Addresses, protocol: str
) -> None:
    """What is opened again without DSR may find that its service is gone; the next connection has nothing of it."""
    lab = balancer(netns, lab.flags, who, protocol)
    sent = segment(who, (who.client, CLIENT, who.node, PORT), protocol=protocol, **IN)
    for _ in range(3):
        lab.run("from_uplink", sent)
    lab.service(
        who.node, 30081, [who.remote_pod], protocol=protocol,
        flags=ServiceFlag.NODE_PORT | ServiceFlag.DSR, target=TARGET,
    )  # fmt: skip
    remove_frontend(lab, who.node, PORT, protocol)
    if protocol == "UDP":
        peers(lab, DsrDispatch.NONE)
    result = lab.run("from_uplink", sent)
    assert result.code not in {REDIRECT, SHOT}
    peers(lab)
    result = lab.run(
        "from_uplink", segment(who, (who.client, 40001, who.node, 30081), protocol=protocol)
    )
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.DSR): 1}
