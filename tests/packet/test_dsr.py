# SPDX-License-Identifier: Apache-2.0
"""DSR: the node that balances names the frontend, and the backend's node answers the client from it."""

from __future__ import annotations

from typing import Any

import pytest

from kubypass.model.verdict import DsrDispatch, DsrRefusal, Hook, ServiceFlag, Verdict
from tests.packet.dsr import (
    FORGED,
    PORT,
    TARGET,
    backend,
    balancer,
    peers,
    refused,
    told,
    with_option,
)
from tests.packet.lab import PASS, REDIRECT, SHOT, Lab
from tests.packet.packets import IN, TO_NETWORK, TO_POD, Addresses, segment
from tests.packet.snat import tuple_of

CLIENT = 40000


def test_the_option_names_the_frontend(netns: str, lab: Lab, who: Addresses, protocol: str) -> None:
    lab = balancer(netns, lab.flags, who, protocol, driver=lab.driver)
    sent = segment(who, (who.client, CLIENT, who.node, PORT), protocol=protocol)
    there = (who.client, CLIENT, who.remote_pod, TARGET)
    for _ in range(2):
        result = lab.run("from_uplink", sent)
        wanted = told(who, there, (who.node, PORT), TO_NETWORK, protocol=protocol)
        assert (result.code, result.packet) == (REDIRECT, bytes(wanted))
        assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.DSR): 1}


def test_tcp_names_it_on_its_syn_only(netns: str, lab: Lab, who: Addresses) -> None:
    lab = balancer(netns, lab.flags, who, "TCP", driver=lab.driver)
    lab.run("from_uplink", segment(who, (who.client, CLIENT, who.node, PORT), payload=""))
    there = (who.client, CLIENT, who.remote_pod, TARGET)
    for flags in ("A", "PA", "A", "FA", "A"):
        more = {"flags": flags, "seq": 101, "ack": 9}
        result = lab.run("from_uplink", segment(who, (who.client, CLIENT, who.node, PORT), **more))
        assert result.packet == bytes(segment(who, there, **more, **TO_NETWORK))
        assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.DSR): 1}


@pytest.mark.parametrize("frontend", ["node port", "load balancer"])
def test_the_backends_node_answers(
    netns: str, lab: Lab, who: Addresses, protocol: str, frontend: str
) -> None:
    lab = backend(netns, lab.flags, who, protocol, driver=lab.driver)
    named = {"node port": (who.other_node, PORT), "load balancer": (who.service, 80)}[frontend]
    there = (who.client, CLIENT, who.pod, TARGET)
    for _ in range(2):
        result = lab.run("from_uplink", told(who, there, named, protocol=protocol))
        wanted = segment(who, there, protocol=protocol, **TO_POD)
        assert (result.code, result.packet) == (REDIRECT, bytes(wanted))
        assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.TO_POD): 1}
    back = (who.pod, TARGET, who.client, CLIENT)
    more = {"protocol": protocol, "flags": "SA", "seq": 7, "ack": 106}
    result = lab.run("from_pod", segment(who, back, **more, **IN))
    seen = (*named, who.client, CLIENT)
    assert result.packet == bytes(segment(who, seen, **more, **TO_NETWORK))


def test_later_segments_come_without_it(netns: str, lab: Lab, who: Addresses) -> None:
    lab = backend(netns, lab.flags, who, "TCP", driver=lab.driver)
    there, back = (who.client, CLIENT, who.pod, TARGET), (who.pod, TARGET, who.client, CLIENT)
    lab.run("from_uplink", told(who, there, (who.service, 80), payload=""))
    for hook, flow, flags, seq, ack in (
        ("from_pod", back, "SA", 70, 101),
        ("from_uplink", there, "A", 101, 71),
        ("from_pod", back, "PA", 71, 101),
        ("from_uplink", there, "FA", 101, 76),
        ("from_pod", back, "FA", 76, 102),
        ("from_uplink", there, "A", 102, 77),
    ):
        more = {
            "flags": flags,
            "seq": seq,
            "ack": ack,
            "payload": "" if "P" not in flags else "hello",
        }
        result = lab.run(hook, segment(who, flow, **more, **IN))
        to = flow if hook == "from_uplink" else (who.service, 80, who.client, CLIENT)
        where = TO_POD if hook == "from_uplink" else TO_NETWORK
        assert result.packet == bytes(segment(who, to, **more, **where)), flags
    states = {flow.state for _, flow in lab.flows().items() if flow.state}
    assert max(states) == 3, "the end of the connection is seen"


def test_packets_that_are_cut_later(netns: str, who: Addresses) -> None:
    """Segments of an open connection. Test run makes packets that no kernel grows, so tests/box has the others."""
    lab = balancer(netns, 0, who, "TCP")
    lab.run("from_uplink", segment(who, (who.client, CLIENT, who.node, PORT), payload=""))
    more = {"flags": "A", "seq": 101, "payload": "x" * 1400}
    sent = segment(who, (who.client, CLIENT, who.node, PORT), **more)
    result = lab.run("from_uplink", sent, segment_bytes=500)
    there = (who.client, CLIENT, who.remote_pod, TARGET)
    assert result.packet == bytes(segment(who, there, **more, **TO_NETWORK))


def test_a_node_that_does_not_know_the_flow_names_it(netns: str, lab: Lab, who: Addresses) -> None:
    """The network has moved the connection to this node; the backend's node has it already."""
    lab = balancer(netns, lab.flags, who, "TCP", driver=lab.driver)
    more: dict[str, Any] = {"flags": "A", "seq": 5000, "ack": 9000}
    sent = segment(who, (who.client, CLIENT, who.node, PORT), **more)
    there = (who.client, CLIENT, who.remote_pod, TARGET)
    first, second = (lab.run("from_uplink", sent).packet for _ in range(2))
    assert first == bytes(told(who, there, (who.node, PORT), TO_NETWORK, **more))
    assert second == bytes(segment(who, there, **more, **TO_NETWORK))


def test_a_moved_connection_goes_on(netns: str, lab: Lab, who: Addresses) -> None:
    lab = backend(netns, lab.flags, who, "TCP", driver=lab.driver)
    there, back = (who.client, CLIENT, who.pod, TARGET), (who.pod, TARGET, who.client, CLIENT)
    lab.run("from_uplink", told(who, there, (who.service, 80), payload=""))
    lab.run("from_pod", segment(who, back, flags="SA", seq=70, ack=101, payload=""))
    lab.run("from_uplink", segment(who, there, flags="A", seq=101, ack=71, payload=""))
    more: dict[str, Any] = {"flags": "A", "seq": 101, "ack": 71}
    result = lab.run("from_uplink", told(who, there, (who.service, 80), **more))
    assert result.packet == bytes(segment(who, there, **more, **TO_POD))
    result = lab.run("from_pod", segment(who, back, flags="PA", seq=71, ack=106))
    assert tuple_of(result.packet) == (who.service, 80, who.client, CLIENT)
    confirmed = lab.maps["flows"].items()
    assert len(list(confirmed)) == 2, "it is the connection that was"


def test_two_frontends_of_one_backend_at_one_node(
    netns: str, lab: Lab, who: Addresses, protocol: str
) -> None:
    """The second connection with the client's port is masqueraded: its answers could not be told from the first's."""
    lab = balancer(netns, lab.flags, who, protocol, driver=lab.driver)
    lab.service(who.service, 80, [who.remote_pod], protocol=protocol,
                flags=ServiceFlag.LOAD_BALANCER | ServiceFlag.DSR, target=TARGET)  # fmt: skip
    before = refused(lab, DsrRefusal.REFUSED_CLASH)
    lab.run("from_uplink", segment(who, (who.client, CLIENT, who.node, PORT), protocol=protocol))
    sent = segment(who, (who.client, CLIENT, who.service, 80), protocol=protocol)
    result = lab.run("from_uplink", sent)
    source, port, *to = tuple_of(result.packet)
    assert (source, to) == (who.node, [who.remote_pod, TARGET])
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.TO_NETWORK): 1}
    assert refused(lab, DsrRefusal.REFUSED_CLASH) == before + 1
    back = segment(who, (who.remote_pod, TARGET, who.node, port), protocol=protocol, flags="SA")
    assert tuple_of(lab.run("from_uplink", back).packet) == (who.service, 80, who.client, CLIENT)


def test_two_frontends_at_two_nodes_in_datagrams(netns: str, lab: Lab, who: Addresses) -> None:
    lab = backend(netns, lab.flags, who, "UDP", driver=lab.driver)
    there, ports = (who.client, CLIENT, who.pod, TARGET), {}
    for named in ((who.service, 80), (who.other_node, PORT)):
        for _ in range(2):
            result = lab.run("from_uplink", told(who, there, named, protocol="UDP"))
            source, port, *to = tuple_of(result.packet)
            assert (source, to) == (who.client, [who.pod, TARGET])
            ports[named] = port
    assert ports[who.service, 80] == CLIENT != ports[who.other_node, PORT]
    for named, port in ports.items():
        back = segment(who, (who.pod, TARGET, who.client, port), protocol="UDP")
        result = lab.run("from_pod", back)
        seen = segment(who, (*named, who.client, CLIENT), protocol="UDP", **TO_NETWORK)
        assert result.packet == bytes(seen)


def test_two_frontends_at_two_nodes_in_tcp(netns: str, lab: Lab, who: Addresses) -> None:
    """The backend's node refuses the second; the node that balances masquerades what is repeated in vain."""
    lab = backend(netns, lab.flags, who, "TCP", driver=lab.driver)
    there = (who.client, CLIENT, who.pod, TARGET)
    lab.run("from_uplink", told(who, there, (who.service, 80)))
    result = lab.run("from_uplink", told(who, there, (who.other_node, PORT)))
    assert (result.code, dict(result.counted)) == (
        SHOT,
        {(Hook.FROM_UPLINK, Verdict.DROP_DSR_CLASH): 1},
    )
    lab = balancer(netns, lab.flags, who, "TCP", driver=lab.driver)
    before = refused(lab, DsrRefusal.REFUSED_UNANSWERED)
    sent = segment(who, (who.client, CLIENT, who.node, PORT))
    found = [tuple_of(lab.run("from_uplink", sent).packet)[0] for _ in range(5)]
    assert found == [who.client] * 3 + [who.node] * 2
    assert refused(lab, DsrRefusal.REFUSED_UNANSWERED) == before + 1


@pytest.mark.parametrize("why", ["a peer without", "no peer", "a client inside", "options"])
def test_what_cannot_be_is_masqueraded(
    netns: str, lab: Lab, who: Addresses, protocol: str, why: str
) -> None:
    lab = balancer(netns, lab.flags, who, protocol, driver=lab.driver)
    counted = {why: refused(lab, why) for why in DsrRefusal if why != DsrRefusal.REFUSAL_MAX}
    client = who.other_node if why == "a client inside" else who.client
    sent = segment(who, (client, CLIENT, who.node, PORT), protocol=protocol)
    if why == "a peer without":
        peers(lab, DsrDispatch.NONE)
    if why == "no peer":
        lab.maps["dsr_peers"].delete_batch(
            b"".join(key for key, _ in lab.maps["dsr_peers"].items()), 4
        )
    if why == "options":
        sent = with_option(
            sent, b"\x94\x04\x00\x00" if who.version == 4 else b"\x1e\x14" + bytes(20)
        )
    result = lab.run("from_uplink", sent)
    assert result.code == REDIRECT
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.TO_NETWORK): 1}
    assert tuple_of(result.packet)[0] == who.node
    expected = {
        "a peer without": DsrRefusal.REFUSED_PEER,
        "no peer": DsrRefusal.REFUSED_PEER,
        "options": DsrRefusal.REFUSED_OPTIONS,
    }.get(why)
    for refusal, before in counted.items():
        assert refused(lab, refusal) == before + (refusal == expected)


def test_a_service_without_it(netns: str, lab: Lab, who: Addresses, protocol: str) -> None:
    lab = balancer(netns, lab.flags, who, protocol, driver=lab.driver)
    lab.service(who.node, 30081, [who.remote_pod], protocol=protocol, flags=ServiceFlag.NODE_PORT)
    sent = segment(who, (who.client, CLIENT, who.node, 30081), protocol=protocol)
    assert tuple_of(lab.run("from_uplink", sent).packet)[0] == who.node


@pytest.mark.parametrize("how", sorted(FORGED))
def test_a_forged_option_is_not_obeyed(
    netns: str, lab: Lab, who: Addresses, protocol: str, how: str
) -> None:
    lab = backend(netns, lab.flags, who, protocol, driver=lab.driver)
    flags = int(ServiceFlag.LOAD_BALANCER)
    lab.service(who.service, 82, [who.pod], protocol=protocol, flags=flags)
    flags |= ServiceFlag.DSR | ServiceFlag.SOURCE_RANGES
    lab.service(who.service, 83, [who.pod], protocol=protocol, flags=flags)
    before = lab.flows()
    client, address, port = FORGED[how](who)
    sent = told(who, (client, CLIENT, who.pod, TARGET), (address, port), protocol=protocol)
    result = lab.run("from_uplink", sent)
    assert (result.code, lab.flows()) == (SHOT, before)
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.DROP_DSR): 1}


def test_a_pods_option_is_not_obeyed(netns: str, lab: Lab, who: Addresses, protocol: str) -> None:
    lab = backend(netns, lab.flags, who, protocol, driver=lab.driver)
    there = (who.second_pod, CLIENT, who.pod, TARGET)
    sent = told(who, there, (who.service, 80), protocol=protocol)
    result = lab.run("from_pod", sent)
    assert dict(result.counted) == {(Hook.FROM_POD, Verdict.TO_POD): 1}
    assert not lab.flows()
    back = segment(who, (who.pod, TARGET, who.second_pod, CLIENT), protocol=protocol, flags="SA")
    assert tuple_of(lab.run("from_pod", back).packet)[:2] == (who.pod, TARGET)


def test_a_probe_passes(netns: str, lab: Lab, who: Addresses) -> None:
    """A port of 0 names no frontend; agents find out with it whether options arrive."""
    lab = backend(netns, lab.flags, who, "UDP", driver=lab.driver)
    sent = told(who, (who.other_node, 4000, who.node, 4001), (who.other_node, 0), protocol="UDP")
    result = lab.run("from_uplink", sent)
    assert (result.code, result.packet) == (PASS, bytes(sent))


def test_off_means_as_it_comes(lab: Lab, who: Addresses, protocol: str) -> None:
    """Without the setting, an option is one that the node does not know."""
    there, named = (who.client, CLIENT, who.pod, TARGET), (who.service, 80)
    result = lab.run("from_uplink", told(who, there, named, protocol=protocol))
    wanted = told(who, there, named, TO_POD, protocol=protocol)
    assert (result.code, result.packet) == (REDIRECT, bytes(wanted))


def test_a_backend_here_sees_the_client_too(
    netns: str, lab: Lab, who: Addresses, protocol: str
) -> None:
    lab = balancer(netns, lab.flags, who, protocol, driver=lab.driver)
    flags = ServiceFlag.NODE_PORT | ServiceFlag.DSR
    lab.service(who.node, 30081, [who.pod], protocol=protocol, flags=flags, target=TARGET)
    sent = segment(who, (who.client, CLIENT, who.node, 30081), protocol=protocol)
    seen = (who.client, CLIENT, who.pod, TARGET)
    result = lab.run("from_uplink", sent)
    assert result.packet == bytes(segment(who, seen, protocol=protocol, **TO_POD))
    back = (who.pod, TARGET, who.client, CLIENT)
    result = lab.run("from_pod", segment(who, back, protocol=protocol, flags="SA"))
    assert tuple_of(result.packet) == (who.node, 30081, who.client, CLIENT)
