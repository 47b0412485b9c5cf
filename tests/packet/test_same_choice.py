# SPDX-License-Identifier: Apache-2.0
"""The backend of a connection is chosen by its addresses and ports: a connection whose entry is lost gets it again."""

from __future__ import annotations

import random
from collections import Counter

from kubypass.model.verdict import ServiceFlag
from tests.packet.lab import Lab, config
from tests.packet.packets import Addresses, segment
from tests.packet.snat import NODE_PORT, answer, ask, clients, empty, made, tuple_of
from tests.packet.translation import destination


def pods(who: Addresses, count: int) -> list[str]:
    return [f"{who.remote_pod[:-2]}{number}" for number in range(20, 20 + count)]


def backend(lab: Lab, who: Addresses, port: int, flags: str = "S", protocol: str = "TCP") -> str:
    packet = segment(who, (who.pod, port, who.service, 80), flags=flags, protocol=protocol)
    return destination(lab.run("from_pod", packet).packet)


def test_a_segment_without_an_entry_goes_where_its_connection_went(
    lab: Lab, who: Addresses, protocol: str
) -> None:
    lab.service(who.service, 80, pods(who, 7), protocol=protocol)
    ports = range(40000, 40040)
    had = {port: backend(lab, who, port, protocol=protocol) for port in ports}
    lab.forget_flows()
    assert had == {port: backend(lab, who, port, "A", protocol) for port in ports}
    assert len(set(had.values())) == 7


def test_so_does_one_through_the_node_that_kept_its_port(place: str, who: Addresses) -> None:
    lab = empty(place)
    other = who.remote_pod.replace("14", "15")
    lab.service(who.node, NODE_PORT, [who.remote_pod, other], flags=ServiceFlag.NODE_PORT)
    sources = [(who.client, port, who.node, NODE_PORT) for port in range(4000, 4020)]
    became = []
    for flags in "SA":
        sent = [segment(who, source, flags=flags) for source in sources]
        became.append([tuple_of(lab.run("from_uplink", one).packet) for one in sent])
        lab.forget_flows()
    assert became[0] == became[1]
    assert len({backend for _, _, backend, _ in became[0]}) == 2


def test_a_segment_in_midst_of_a_connection_finds_the_reply_that_is_left(
    place: str, who: Addresses
) -> None:
    """Only one of the two entries may have been evicted."""
    lab = made(place, who)
    client = (clients(who, 1)[0], 40000)
    assert ask(lab, who, client) == 40000
    lab.forget_flows(replies=False)
    assert ask(lab, who, client, flags="A") == 40000
    assert answer(lab, who, 40000, flags="A") == client


def test_another_seed_is_another_choice(place: str, who: Addresses) -> None:
    seen = []
    for seed in (1, 2):
        lab = empty(place, seed=seed)
        lab.service(who.service, 80, pods(who, 7))
        seen.append([backend(lab, who, port) for port in range(40000, 40050)])
    same = sum(one == other for one, other in zip(*seen, strict=True))
    assert same < 25, "a seventh, if the choices do not depend on each other"


def test_backends_get_equal_shares_of_any_pattern(place: str, who: Addresses) -> None:
    """Ports that follow on each other, every second one, clients that follow on each other, or chance."""
    lab = empty(place, seed=random.getrandbits(64))
    lab.service(who.node, NODE_PORT, pods(who, 10), flags=ServiceFlag.NODE_PORT)
    patterns = {
        "ports": [(who.client, 32768 + number) for number in range(400)],
        "even ports": [(who.client, 32768 + 2 * number) for number in range(400)],
        "clients": [(host, 40000) for host in clients(who, 400)],
        "both": [(host, 1024 + 37 * at) for at, host in enumerate(clients(who, 400))],
    }
    for name, sources in patterns.items():
        got: Counter[str] = Counter()
        for host, port in sources:
            packet = segment(who, (host, port, who.node, NODE_PORT))
            got[destination(lab.run("from_uplink", packet).packet)] += 1
        # With 9 degrees of freedom, chance exceeds 40 once in 100,000 times.
        assert sum((count - 40) ** 2 / 40 for count in got.values()) < 40, (name, got)
        assert len(got) == 10


def test_the_seed_lasts_until_the_node_boots() -> None:
    assert config().seed == config().seed != 0
