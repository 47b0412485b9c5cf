# SPDX-License-Identifier: Apache-2.0
"""Connections to services whose backends change while they last."""

from __future__ import annotations

from kubypass.datapath import layout
from kubypass.model.verdict import Hook, Verdict
from tests.packet.lab import REDIRECT, Lab
from tests.packet.packets import Addresses, segment
from tests.packet.segments import Conversation
from tests.packet.translation import destination


def test_a_repeated_syn_stays_with_its_backend(lab: Lab, who: Addresses) -> None:
    lab.service(who.service, 80, [who.second_pod, who.remote_pod])
    packet = segment(who, (who.pod, 40000, who.service, 80))
    assert len({destination(lab.run("from_pod", packet).packet) for _ in range(20)}) == 1


def test_a_reused_port_does_not_inherit_its_backend(lab: Lab, who: Addresses) -> None:
    first, second = lab.service(who.service, 80, [who.second_pod, who.remote_pod])
    for listed, expected in ((first, who.second_pod), (second, who.remote_pod)) * 3:
        lab.relist(listed, listed)
        packet = segment(who, (who.pod, 40000, who.service, 80), payload="")
        backend = destination(lab.run("from_pod", packet).packet)
        assert backend == expected
        refused = (backend, 8080, who.pod, 40000)
        hook = "from_pod" if backend == who.second_pod else "from_uplink"
        lab.run(hook, segment(who, refused, flags="RA", seq=0, ack=101, payload=""))


def test_a_syn_never_goes_to_a_backend_that_is_gone(lab: Lab, who: Addresses) -> None:
    first, second = lab.service(who.service, 80, [who.second_pod, who.remote_pod])
    packet = segment(who, (who.pod, 40000, who.service, 80))
    gone = destination(lab.run("from_pod", packet).packet)
    lab.remove_backend(first if gone == who.second_pod else second)
    results = [lab.run("from_pod", packet) for _ in range(20)]
    assert gone not in {destination(r.packet) for r in results if r.code == REDIRECT}


def test_an_established_connection_outlives_its_backend_and_udp_does_not(
    lab: Lab, who: Addresses, protocol: str
) -> None:
    ids = lab.service(who.service, 80, [who.second_pod, who.remote_pod], protocol=protocol)
    request = (who.pod, 40000, who.service, 80)
    for flags in ("S", "A"):
        result = lab.run("from_pod", segment(who, request, protocol=protocol, flags=flags))
    had = destination(result.packet)
    lab.remove_backend(ids[had == who.remote_pod])
    left = ids[had == who.second_pod]
    lab.relist(left, left)
    packets = [segment(who, request, protocol=protocol, flags="A") for _ in range(20)]
    results = [lab.run("from_pod", packet) for packet in packets]
    seen = {destination(r.packet) for r in results if r.code == REDIRECT}
    assert seen == ({had} if protocol == "TCP" else {who.second_pod, who.remote_pod} - {had})


def test_a_syn_that_opens_nothing_ends_nothing(lab: Lab, who: Addresses) -> None:
    """Anybody can send it: the connection to a backend that is gone ends where another one opens."""
    (number,) = lab.service(who.service, 80, [who.second_pod])
    begun = Conversation(lab, who).open().talk()
    lab.remove_backend(number)
    lab.empty_service(who.service, 80)
    syn = segment(who, (who.pod, 40000, who.service, 80), payload="")
    counted = dict(lab.run("from_pod", syn).counted)
    assert counted == {(Hook.FROM_POD, Verdict.REJECT_NO_BACKEND): 1}
    assert begun.ask("A") == who.second_pod
    lab.service(who.service, 80, [who.remote_pod])
    assert begun.ask("S") == who.remote_pod
    assert begun.ask("A") == who.remote_pod


def test_a_udp_flow_stays_while_nothing_else_serves(lab: Lab, who: Addresses) -> None:
    (number,) = lab.service(who.service, 80, [who.second_pod], protocol="UDP")
    packet = segment(who, (who.pod, 40000, who.service, 80), protocol="UDP")
    lab.run("from_pod", packet)
    lab.remove_backend(number)
    lab.empty_service(who.service, 80, "UDP")
    assert destination(lab.run("from_pod", packet).packet) == who.second_pod
    other = segment(who, (who.pod, 40001, who.service, 80), protocol="UDP", payload="")
    counted = dict(lab.run("from_pod", other).counted)
    assert counted == {(Hook.FROM_POD, Verdict.REJECT_NO_BACKEND): 1}


def test_an_expired_flow_is_absent(lab: Lab, who: Addresses) -> None:
    lab.service(who.service, 80, [who.second_pod])
    request = (who.pod, 40000, who.service, 80)
    for flags in ("S", "A"):
        lab.run("from_pod", segment(who, request, flags=flags))
    lab.empty_service(who.service, 80)
    assert lab.run("from_pod", segment(who, request, flags="A")).code == REDIRECT
    lab.expire_flows()
    result = lab.run("from_pod", segment(who, request, flags="A", payload=""))
    assert dict(result.counted) == {(Hook.FROM_POD, Verdict.REJECT_NO_BACKEND): 1}


def test_every_backend_gets_its_share(lab: Lab, who: Addresses) -> None:
    lab.service(who.service, 80, [who.second_pod, who.remote_pod])
    seen = [
        destination(lab.run("from_pod", segment(who, (who.pod, port, who.service, 80))).packet)
        for port in range(40000, 40200)
    ]
    assert 60 < seen.count(who.second_pod) < 140


def test_an_affinity_to_what_is_another_services_backend_by_now_is_void(
    lab: Lab, who: Addresses
) -> None:
    """An identifier is used again, though as late as possible."""
    lab.service(who.service, 80, [who.second_pod], affinity_s=1000)
    assert lab.run("from_pod", segment(who, (who.pod, 40000, who.service, 80))).code == REDIRECT
    ((client, affinity),) = lab.maps["affinities"].items()
    other = "10.233.30.48" if who.version == 4 else "fd00:10:233::48"
    (foreign,) = lab.service(other, 80, [who.remote_pod])
    value = layout.Affinity.unpack(affinity)._replace(backend=foreign)
    lab.maps["affinities"].update(client, value.pack())
    again = lab.run("from_pod", segment(who, (who.pod, 40001, who.service, 80)))
    assert destination(again.packet) == who.second_pod
