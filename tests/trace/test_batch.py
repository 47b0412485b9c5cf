# SPDX-License-Identifier: Apache-2.0
"""kube-proxy's truth tables, asked of the kernel through `trace --batch`; every row in both families."""

from __future__ import annotations

import pytest

from tests.trace.cases import (
    ALT,
    CLUSTER_IP,
    EXTERNAL_IP,
    NODE,
    NODE_PORT,
    OUTSIDE,
    POD,
    VIP,
    Case,
    ipv6,
)

BOTH = ("10.0.1.1", "10.0.2.1")
MINE, OTHER = ("10.0.1.1",), ("10.0.2.1",)
EXTERNAL = [(EXTERNAL_IP, 80), (VIP, 80), (NODE, NODE_PORT), (ALT, NODE_PORT)]
LOCAL = {"externalTrafficPolicy": "Local"}
ELSEWHERE = "10.0.2.1@other"
ENDING = "10.0.1.1@me=st 10.0.2.1@other=st"


def _last(address: str) -> str:
    """The last part of an address of either family, as a number in decimal."""
    text = address.strip("[]")
    return text.rpartition(":")[2] if ":" in text else text.rpartition(".")[2]


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def check(ask, request):
    def check(case, source, to, port, expected, **more) -> None:
        backends, masquerade = expected if isinstance(expected, tuple) else ((), False)
        asked = case.ask(source, to, port, **more)
        answer = ask(ipv6(asked) if request.param == 6 else asked)
        found = {_last(text.rpartition(":")[0]) for text in answer["backends"]}
        places = {_last(text) for text in backends}
        word = expected if isinstance(expected, str) else "dnat"
        assert (answer["verdict"], found, answer["masquerade"]) == (word, places, masquerade), (
            answer
        )
        assert (answer["backend"] in answer["backends"]) if backends else answer["backend"] is None
        assert answer["reason"]

    return check


@pytest.mark.parametrize("proto", ["TCP", "UDP", "SCTP"])
@pytest.mark.parametrize(
    ("source", "masquerade"), [(POD, False), (NODE, True), (ALT, True), (OUTSIDE, True)]
)
def test_cluster_ip(check, source, masquerade, proto):
    check(Case(), source, CLUSTER_IP, 80, (BOTH, masquerade), proto=proto)


@pytest.mark.parametrize("source", [POD, NODE, OUTSIDE])
@pytest.mark.parametrize(
    ("config", "cidr", "masquerade"),
    [
        ({"masquerade_all": True}, "10.0.0.0/16", True),
        ({"local_detector": "none"}, "10.0.0.0/16", False),
        ({}, "", False),
    ],
    ids=["masquerade-all", "no detector", "no cluster CIDR"],
)
def test_cluster_ip_masquerade(check, source, config, cidr, masquerade):
    check(Case(config=config, cluster_cidr=cidr), source, CLUSTER_IP, 80, (BOTH, masquerade))


@pytest.mark.parametrize("source", [POD, NODE, OUTSIDE])
def test_a_cluster_cidr_of_the_other_family_is_no_detector(ask, source):
    case = Case(spec=LOCAL, cluster_cidr="fd00:1::/32")
    to_cluster_ip = case.ask(source, CLUSTER_IP, 80)
    assert ask(to_cluster_ip)["masquerade"] is False
    assert ask(ipv6(to_cluster_ip))["masquerade"] is True
    backends = ask(case.ask(source, VIP, 80))["backends"]
    assert len(backends) == (2 if source == NODE else 1)


@pytest.mark.parametrize("source", [POD, NODE, OUTSIDE])
@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        ("10.0.1.1@me 10.0.2.1@other", MINE),
        (ELSEWHERE, "drop"),
        ("", "reject"),
        ("10.0.1.1@me=s", "reject"),
        ("10.0.1.1@me=st 10.0.2.1@other", MINE),
        (ENDING, MINE),
    ],
)
def test_internal_traffic_policy_local(check, source, endpoints, expected):
    case = Case(endpoints, {"internalTrafficPolicy": "Local"})
    check(
        case,
        source,
        CLUSTER_IP,
        80,
        expected if isinstance(expected, str) else (expected, source != POD),
    )
    if endpoints == ELSEWHERE:
        check(case, source, VIP, 80, (OTHER, True))


@pytest.mark.parametrize(("to", "port"), EXTERNAL)
@pytest.mark.parametrize("source", [POD, NODE, OUTSIDE])
def test_external_traffic_policy_cluster(check, source, to, port):
    check(Case(), source, to, port, (BOTH, True))
    check(Case(""), source, to, port, "reject")
    check(Case("10.0.1.1@me=s"), source, to, port, "reject")
    check(Case(ENDING), source, to, port, (BOTH, True))


@pytest.mark.parametrize(("to", "port"), EXTERNAL)
def test_external_traffic_policy_local(check, to, port):
    check(Case(spec=LOCAL), OUTSIDE, to, port, (MINE, False))
    check(Case(spec=LOCAL), POD, to, port, (BOTH, False))
    check(Case(spec=LOCAL), NODE, to, port, (BOTH, True))
    check(Case(spec=LOCAL), ALT, to, port, (BOTH, True))
    check(Case(ELSEWHERE, LOCAL), OUTSIDE, to, port, "drop")
    check(Case(ELSEWHERE, LOCAL), POD, to, port, (OTHER, False))
    check(
        Case(ELSEWHERE, {**LOCAL, "internalTrafficPolicy": "Local"}), POD, to, port, (OTHER, False)
    )
    for source in (OUTSIDE, POD, NODE):
        check(Case("", LOCAL), source, to, port, "reject")
    check(Case("10.0.1.1@me=st 10.0.2.1@other", LOCAL), OUTSIDE, to, port, (MINE, False))
    without = Case(spec=LOCAL, config={"local_detector": "none"})
    check(without, POD, to, port, (MINE, False))
    check(without, NODE, to, port, (BOTH, True))


@pytest.mark.parametrize("kind", ["pod", "external"])
@pytest.mark.parametrize("source", [NODE, ALT])
def test_an_address_of_the_node_is_the_node_whoever_has_it(check, source, kind):
    for config in ({}, {"local_detector": "none"}):
        case = Case(spec=LOCAL, config=config)
        for to, port in EXTERNAL:
            check(case, source, to, port, (BOTH, True), kind=kind)
        check(case, source, CLUSTER_IP, 80, (BOTH, not config), kind=kind)


def test_policies_of_the_other_kind_change_nothing(check):
    check(Case(spec=LOCAL), POD, CLUSTER_IP, 80, (BOTH, False))
    check(Case(spec={"internalTrafficPolicy": "Local"}), OUTSIDE, VIP, 80, (BOTH, True))


@pytest.mark.parametrize("source", [POD, NODE])
def test_a_client_that_is_its_own_backend_is_masqueraded(check, source):
    endpoints = "10.0.1.1@me" if source == POD else f"{NODE}@me"
    client = "10.0.1.1" if source == POD else NODE
    check(
        Case(endpoints),
        client,
        CLUSTER_IP,
        80,
        ((client,), True),
        kind="pod" if source == POD else "node",
    )


RANGES = ["203.0.113.0/24"]


@pytest.mark.parametrize(
    ("ranges", "source", "expected"),
    [
        (RANGES, OUTSIDE, (BOTH, True)),
        (RANGES, "198.51.100.1", "drop"),
        (RANGES, POD, "drop"),
        (RANGES, NODE, "drop"),
        ([*RANGES, "10.0.0.0/16"], POD, (BOTH, True)),
        ([*RANGES, " 192.168.0.0/24"], NODE, (BOTH, True)),
        ([*RANGES, "192.168.0.0/24"], VIP, (BOTH, True)),
        (RANGES, VIP, "drop"),
    ],
)
def test_source_ranges(check, ranges, source, expected):
    kind = "node" if source == VIP else ""
    case = Case(spec={"loadBalancerSourceRanges": ranges})
    check(case, source, VIP, 80, expected, kind=kind)
    if source != VIP:
        for to, port in ((NODE, NODE_PORT), (EXTERNAL_IP, 80)):
            check(case, source, to, port, (BOTH, True))
    check(
        Case("", {"loadBalancerSourceRanges": ranges}),
        source,
        VIP,
        80,
        "drop" if expected == "drop" else "reject",
        kind=kind,
    )


def test_ranges_of_the_other_family_filter_nothing(ask):
    case = Case(spec={"loadBalancerSourceRanges": ["2001:db8::/64"]}).ask(OUTSIDE, VIP, 80)
    assert ask(case)["verdict"] == "dnat"


@pytest.mark.parametrize(
    ("vips", "expected"),
    [
        ([{"ip": VIP, "ipMode": "VIP"}], (BOTH, True)),
        ([{"ip": VIP, "ipMode": "Proxy"}], "accept"),
        ([{"hostname": "lb.example.com"}], "accept"),
        ([{"ip": "192.0.2.99"}, {"ip": VIP}], (BOTH, True)),
    ],
)
def test_ingress(check, vips, expected):
    for source in (POD, NODE, OUTSIDE):
        check(Case(vips=vips), source, VIP, 80, expected)
        check(Case(vips=vips), source, NODE, NODE_PORT, (BOTH, True))


@pytest.mark.parametrize("source", [POD, NODE, OUTSIDE])
def test_what_is_not_served(check, source):
    case = Case()
    check(case, source, CLUSTER_IP, 81, "reject")
    check(case, source, "10.96.0.11", 80, "drop")
    check(Case(config={"service_cidrs": []}), source, "10.96.0.11", 80, "accept")
    check(Case(config={"service_cidrs": []}), source, CLUSTER_IP, 81, "reject")
    for to, port in (
        (VIP, 81),
        (EXTERNAL_IP, 81),
        (NODE, 80),
        (NODE, 30081),
        ("192.168.0.3", NODE_PORT),
    ):
        check(case, source, to, port, "accept")
    check(case, source, "10.0.2.1", 8080, "accept")


@pytest.mark.parametrize(
    ("chosen", "first", "second", "loopback"),
    [
        (None, True, True, True),
        ("primary", True, False, False),
        (["192.168.0.0/24"], True, False, False),
        (["192.168.1.0/24"], False, True, False),
        (["127.0.0.0/8", "192.168.1.0/24"], False, True, True),
        (["0.0.0.0/0"], True, True, True),
    ],
    ids=str,
)
def test_node_port_addresses(ask, chosen, first, second, loopback):
    case = Case(config={"nodeport_addresses": chosen})
    for to, answers in ((NODE, first), (ALT, second), ("127.0.0.1", loopback)):
        sources = (NODE,) if to == "127.0.0.1" else (POD, NODE, OUTSIDE)
        for source in sources:
            found = ask(case.ask(source, to, NODE_PORT))["verdict"]
            assert found == ("dnat" if answers else "accept"), (source, to)


def test_networks_of_one_family_leave_the_other_alone(ask):
    case = Case(config={"nodeport_addresses": ["fd00:1::/64"]})
    assert ask(case.ask(OUTSIDE, ALT, NODE_PORT))["verdict"] == "dnat"


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        (Case(), "dnat"),
        (Case(spec=LOCAL), "dnat"),
        (Case(""), "reject"),
        (Case(config={"localhost_nodeports": False}), "accept"),
        (
            Case(config={"localhost_nodeports": False, "nodeport_addresses": ["127.0.0.1/32"]}),
            "accept",
        ),
    ],
)
def test_loopback(ask, case, verdict):
    asked = case.ask("127.0.0.1", "127.0.0.1", NODE_PORT)
    answer = ask(asked)
    assert (answer["verdict"], answer["masquerade"]) == (verdict, verdict == "dnat")
    assert ask(ipv6(asked))["verdict"] == "accept", "kube-proxy has it for IPv4 only"


@pytest.mark.parametrize(
    "spec", [{"type": "ExternalName"}, {"clusterIP": "None"}], ids=["ExternalName", "headless"]
)
def test_services_that_are_none(check, spec):
    for to, port in ((CLUSTER_IP, 80), (NODE, NODE_PORT), (VIP, 80)):
        check(Case(spec=spec, config={"service_cidrs": []}), POD, to, port, "accept")


def test_an_endpoint_that_names_no_node_is_remote(ask):
    case = Case("10.0.1.1", {"internalTrafficPolicy": "Local"}).ask(POD, CLUSTER_IP, 80)
    for name in ("me", ""):
        assert ask({**case, "this_node": name})["verdict"] == "drop"


def test_leading_zeros_are_decimal(ask):
    case = Case("010.000.001.001@me").ask(POD, "010.096.000.010", 80)
    assert ask(case)["backends"] == ["10.0.1.1:8080"]


def test_a_conflict_has_a_winner_and_is_told(ask):
    case = Case().ask(OUTSIDE, NODE, NODE_PORT)
    (service,) = case["objects"]["services"]
    rival = {
        "metadata": {**service["metadata"], "name": "a-rival"},
        "spec": {**service["spec"], "clusterIP": "10.96.0.99", "externalIPs": []},
    }
    rival["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    case["objects"]["services"].append(rival)
    service["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    answer = ask(case)
    assert answer["verdict"] == "dnat"
    assert any("a-rival" in problem and "default/web" in problem for problem in answer["problems"])


@pytest.mark.parametrize(
    ("chosen", "owner"), [([f"{ALT}/32"], "young"), (None, "web"), ("primary", "web")]
)
def test_a_node_port_yields_an_address_on_which_it_does_not_answer(ask, chosen, owner):
    case = Case(config={"nodeport_addresses": chosen}).ask(OUTSIDE, NODE, NODE_PORT)
    young = {
        "metadata": {"name": "young", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"clusterIP": "10.96.0.99", "externalIPs": [NODE], "ports": [{"port": NODE_PORT}]},
    }  # fmt: skip
    case["objects"]["services"].append(young)
    answer = ask(case)
    assert answer["verdict"] == ("dnat" if owner == "web" else "reject")
    assert owner in answer["reason"]


@pytest.mark.parametrize("source", [POD, NODE, OUTSIDE])
def test_a_cluster_ip_that_has_lost_its_ports_is_one_all_the_same(ask, source):
    case = Case(config={"service_cidrs": []}).ask(source, CLUSTER_IP, 81)
    old = {
        "metadata": {"name": "old", "namespace": "default"},
        "spec": {
            "clusterIP": "10.96.0.99",
            "externalIPs": [CLUSTER_IP],
            "ports": [{"name": p, "port": 80, "protocol": p} for p in ("TCP", "UDP", "SCTP")],
        },
    }
    case["objects"]["services"][0]["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    case["objects"]["services"].append(old)
    for one in (case, ipv6(case)):
        assert ask(one)["verdict"] == "reject"
        one["flow"]["dst_port"] = 80
        assert "default/old" in ask(one)["reason"]


FLOW = {"src_ip": POD, "src_kind": "pod", "proto": "TCP", "dst_ip": CLUSTER_IP, "dst_port": 80}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("nonsense", "JSON is malformed"),
        ("[]", "Expected `object`"),
        ('{"id": ' + "[" * 5000 + "]" * 5000 + "}", "recursion"),
        ('{"objects": {"services": [' + '{"a":' * 100_000, "recursion"),
        ({"id": 7}, "flow"),
        ({"id": 7, "flow": {**FLOW, "src_ip": "x"}}, "flow.src_ip"),
        ({"id": 7, "flow": {**FLOW, "src_ip": "::1"}}, "one family"),
        ({"id": 7, "flow": {**FLOW, "proto": "GRE"}}, "TCP, UDP or SCTP"),
        ({"id": 7, "flow": {**FLOW, "dst_port": 0}}, "1 to 65535"),
        ({"id": 7, "flow": {**FLOW, "src_kind": "router"}}, "flow.src_kind"),
        ({"id": 7, "flow": FLOW, "cluster_cidr": ["ten"]}, "cluster_cidr"),
        ({"id": 7, "flow": FLOW, "node_ips": ["ten"]}, "node_ips"),
        ({"id": 7, "flow": FLOW, "objects": {"services": 3}}, "objects.services"),
        ({"id": 7, "flow": FLOW, "config": {"nodeport_addresses": "all"}}, "nodeport_addresses"),
    ],
)
def test_a_bad_case_is_a_line_with_an_error(ask, line, error):
    answer = ask(line)
    assert error in answer["error"]
    assert answer["id"] == (7 if isinstance(line, dict) else None)
    assert ask(Case().ask(POD, CLUSTER_IP, 80))["verdict"] == "dnat", "the next one is answered"


@pytest.mark.parametrize(
    "bad", [3, None, {}, {"spec": 7}, {"metadata": {"name": "x"}, "spec": {"ports": "80"}}]
)
def test_bad_objects_are_problems_of_their_case(ask, bad):
    case = Case().ask(POD, CLUSTER_IP, 80)
    for objects in case["objects"].values():
        objects.append(bad)
    answer = ask(case)
    assert answer["verdict"] == "dnat"
    assert answer["problems"]
