# SPDX-License-Identifier: Apache-2.0
"""ICMP errors about translated packets are translated, wherever they come from."""

from __future__ import annotations

from kubypass.model.verdict import Hook, ServiceFlag, Verdict
from tests.packet.icmp_errors import ERRORS, check, error, open_flow, quoted, router, serve
from tests.packet.lab import PASS, SHOT, Lab
from tests.packet.packets import IN, TO_NETWORK, TO_POD, Addresses

NODE_PORT = ServiceFlag.NODE_PORT


def test_about_a_request_to_a_backend_elsewhere(lab: Lab, who: Addresses) -> None:
    """DNAT alone: a router's error goes to the pod that asked, about what this has sent."""
    serve(lab, who.service, 80, [who.remote_pod])
    asked = (who.pod, 40000, who.service, 80)
    open_flow(lab, who, "from_pod", asked)
    went = (who.pod, 40000, who.remote_pod, 8080)
    way = router(who)
    check(lab, who, "from_uplink", (way, who.pod, went), (way, who.pod, asked), TO_POD)
    backend, service = who.remote_pod, who.service
    check(lab, who, "from_uplink", (backend, who.pod, went), (service, who.pod, asked), TO_POD)


def test_about_a_request_to_a_backend_of_the_node(lab: Lab, who: Addresses) -> None:
    serve(lab, who.service, 80, [who.second_pod])
    asked, went = (who.pod, 40000, who.service, 80), (who.pod, 40000, who.second_pod, 8080)
    open_flow(lab, who, "from_pod", asked)
    arrives, leaves = (who.second_pod, who.pod, went), (who.service, who.pod, asked)
    check(lab, who, "from_pod", arrives, leaves, TO_POD)


def test_about_a_masqueraded_request(lab: Lab, who: Addresses) -> None:
    """The client outside gets it, about its NodePort."""
    serve(lab, who.node, 30080, [who.remote_pod], flags=NODE_PORT)
    asked, went = (who.client, 40000, who.node, 30080), (who.node, 40000, who.remote_pod, 8080)
    open_flow(lab, who, "from_uplink", asked)
    way = router(who)
    arrives, leaves = (way, who.node, went), (way, who.client, asked)
    check(lab, who, "from_uplink", arrives, leaves, TO_NETWORK, own=who.node)
    arrives, leaves = (who.remote_pod, who.node, went), (who.node, who.client, asked)
    check(lab, who, "from_uplink", arrives, leaves, TO_NETWORK)


def test_of_a_client_about_a_reply_of_a_backend_elsewhere(lab: Lab, who: Addresses) -> None:
    """The backend gets it: it knows the client by this node's address."""
    serve(lab, who.node, 30080, [who.remote_pod], flags=NODE_PORT)
    open_flow(lab, who, "from_uplink", (who.client, 40000, who.node, 30080))
    went, said = (who.node, 30080, who.client, 40000), (who.remote_pod, 8080, who.node, 40000)
    way = router(who)
    arrives, leaves = (way, who.node, went), (way, who.remote_pod, said)
    check(lab, who, "from_uplink", arrives, leaves, TO_NETWORK, own=who.node)
    arrives, leaves = (who.client, who.node, went), (who.node, who.remote_pod, said)
    check(lab, who, "from_uplink", arrives, leaves, TO_NETWORK)


def test_of_a_client_about_a_reply_of_a_backend_of_the_node(lab: Lab, who: Addresses) -> None:
    flags = NODE_PORT | ServiceFlag.LOCAL
    serve(lab, who.node, 30080, [who.pod], local=[who.pod], flags=flags)
    open_flow(lab, who, "from_uplink", (who.client, 40000, who.node, 30080))
    went, said = (who.node, 30080, who.client, 40000), (who.pod, 8080, who.client, 40000)
    arrives, leaves = (who.client, who.node, went), (who.client, who.pod, said)
    check(lab, who, "from_uplink", arrives, leaves, TO_POD)


def test_of_a_pod_about_a_reply(lab: Lab, who: Addresses) -> None:
    serve(lab, who.service, 80, [who.second_pod])
    open_flow(lab, who, "from_pod", (who.pod, 40000, who.service, 80))
    went, said = (who.service, 80, who.pod, 40000), (who.second_pod, 8080, who.pod, 40000)
    arrives, leaves = (who.pod, who.service, went), (who.pod, who.second_pod, said)
    check(lab, who, "from_pod", arrives, leaves, TO_POD)


def test_of_the_node_whose_network_has_the_backend(lab: Lab, who: Addresses) -> None:
    flags = NODE_PORT | ServiceFlag.LOCAL
    serve(lab, who.node, 30080, [who.node], local=[who.node], flags=flags)
    asked, went = (who.client, 40000, who.node, 30080), (who.client, 40000, who.node, 8080)
    open_flow(lab, who, "from_uplink", asked)
    arrives, leaves = (who.node, who.client, went), (who.node, who.client, asked)
    check(lab, who, "to_uplink", arrives, leaves, IN, PASS)


def test_of_the_node_to_a_pod(lab: Lab, who: Addresses) -> None:
    serve(lab, who.service, 80, [who.node])
    asked, went = (who.pod, 40000, who.service, 80), (who.pod, 40000, who.node, 8080)
    open_flow(lab, who, "from_pod", asked)
    arrives, leaves = (who.node, who.pod, went), (who.service, who.pod, asked)
    check(lab, who, "to_pod", arrives, leaves, IN, PASS)


def test_about_a_connection_of_the_node_itself(lab: Lab, who: Addresses) -> None:
    """A socket that was there before the programs: its packets are translated on their way out."""
    serve(lab, who.service, 80, [who.remote_pod])
    asked, went = (who.node, 40000, who.service, 80), (who.node, 40000, who.remote_pod, 8080)
    open_flow(lab, who, "to_uplink", asked)
    way = router(who)
    check(lab, who, "from_uplink", (way, who.node, went), (way, who.node, asked), IN, PASS)


def test_about_other_packets_they_stay_as_they_are(lab: Lab, who: Addresses) -> None:
    serve(lab, who.service, 80, [who.remote_pod])
    open_flow(lab, who, "from_pod", (who.pod, 40000, who.service, 80))
    way, other = router(who), (who.pod, 40001, who.remote_pod, 8080)
    check(lab, who, "from_uplink", (way, who.pod, other), (way, who.pod, other), TO_POD)
    sent = quoted(who, (who.pod, 40000, who.remote_pod, 8080))
    stray = error(who, way, who.second_pod, ERRORS[who.version][0], sent, IN)
    result = lab.run("from_uplink", stray)
    assert (
        result.packet[12:]
        == error(who, way, who.second_pod, ERRORS[who.version][0], sent, TO_POD)[12:]
    ), "it quotes what its receiver has not sent"


def test_of_a_flow_that_is_over(lab: Lab, who: Addresses) -> None:
    serve(lab, who.service, 80, [who.remote_pod])
    open_flow(lab, who, "from_pod", (who.pod, 40000, who.service, 80))
    lab.expire_flows()
    went = (who.pod, 40000, who.remote_pod, 8080)
    row = (router(who), who.pod, went)
    check(lab, who, "from_uplink", row, row, TO_POD)


def test_the_last_hop_of_an_error_is_silent(lab: Lab, who: Addresses) -> None:
    """RFC 1122 section 3.2.2: no errors about errors."""
    serve(lab, who.node, 30080, [who.remote_pod], flags=NODE_PORT)
    open_flow(lab, who, "from_uplink", (who.client, 40000, who.node, 30080))
    quote = quoted(who, (who.node, 40000, who.remote_pod, 8080))
    message = ERRORS[who.version][0]
    frame = error(who, router(who), who.node, message, quote, {**IN, "ttl": 1})
    result = lab.run("from_uplink", frame)
    assert (result.code, dict(result.counted)) == (
        SHOT,
        {(Hook.FROM_UPLINK, Verdict.DROP_TTL_EXPIRED): 1},
    )
