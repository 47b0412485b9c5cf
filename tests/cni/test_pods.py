# SPDX-License-Identifier: Apache-2.0
"""Pods by the real plugin and a real agent: what they get, and that packets pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kubypass_lab.bench.cluster import write_file
from tests.cni.exchange import connects, exchange, listening
from tests.cni.runtime import Runtime, inside, kill, problems, running, write_node
from tests.waiting import wait


def links(namespace: str) -> dict[str, dict[str, Any]]:
    return {link["ifname"]: link for link in json.loads(inside(namespace, "ip", "-j", "addr"))}


def test_pods_get_addresses_and_talk(pods: Runtime) -> None:
    with running(pods):
        first, second = pods.add("first"), pods.add("second")
        assert pods.addresses("first") == ["10.1.2.2", "fd01:2::2"]
        assert pods.addresses("second") == ["10.1.2.3", "fd01:2::3"]
        node = f"/run/netns/{pods.node.namespace}"
        for result, name in ((first, "first"), (second, "second")):
            here, there = result["interfaces"]
            assert links(node)[here["name"]]["address"] == here["mac"]
            eth0 = links(pods.netns(name))["eth0"]
            assert (eth0["address"], there["sandbox"]) == (there["mac"], pods.netns(name))
            assert "nodad" not in eth0.get("flags", []), "addresses are usable at once"
        for number, address in enumerate(pods.addresses("second")):
            own = pods.addresses("first")[number]
            assert connects(pods.netns("first"), pods.netns("second"), address) == own
            assert connects(node, pods.netns("second"), address)
        status = pods.node.status()
        assert status["pods"] == 2
        assert [(pool["used"], pool["capacity"]) for pool in status["ipam"]] == [
            (2, 253),
            (2, 65534),
        ]
        assert not problems(pods.node)


def test_a_result_has_what_its_version_asks_for(pods: Runtime) -> None:
    with running(pods):
        for number, version in enumerate(("0.3.1", "0.4.0", "1.0.0", "1.1.0")):
            pods.version = version
            result = pods.add(f"pod{number}")
            assert result["cniVersion"] == version
            assert ("version" in result["ips"][0]) == (version < "1.0.0")
            assert ("mtu" in result["interfaces"][1]) == (version == "1.1.0")
            assert [route["dst"] for route in result["routes"]] == ["0.0.0.0/0", "::/0"]
            code, none = pods.call("CHECK", f"pod{number}", prevResult=result)
            assert (code, none) == (0, None)


def test_dns_is_passed_on(pods: Runtime) -> None:
    with running(pods):
        pods.sandbox("pod")
        dns = {"nameservers": ["10.96.0.10"], "search": ["cluster.local"]}
        code, result = pods.call("ADD", "pod", dns=dns)
        assert (code, result["dns"]) == (0, dns)


def test_a_deleted_pod_leaves_nothing_and_its_address_rests(pods: Runtime) -> None:
    node = f"/run/netns/{pods.node.namespace}"
    with running(pods):
        before = links(node).keys()
        pods.add("pod")
        pods.delete("pod")
        assert links(node).keys() == before
        assert "eth0" not in links(pods.netns("pod"))
        assert not list((pods.node.run / "pods").iterdir())
        assert wait(lambda: pods.node.status()["pods"] == 0, "no pods")
        pods.delete("pod")
        pods.delete("never-there")
        pods.add("pod")
        assert pods.addresses("pod")[0] == "10.1.2.3"
    with running(pods):
        pods.delete("pod")
        pods.add("pod")
        assert pods.addresses("pod")[0] == "10.1.2.4", "also over a restart of the agent"


def test_an_add_whose_answer_was_lost_gives_the_same_again(pods: Runtime) -> None:
    with running(pods):
        first = pods.add("pod")
        with listening(pods.netns("pod"), "10.1.2.2", 8080) as server:
            assert pods.add("pod") == first
            exchange(f"/run/netns/{pods.node.namespace}", server, ("10.1.2.2", 8080))


def test_half_an_add_is_cleaned_up(pods: Runtime) -> None:
    with running(pods):
        pods.add("pod")
        inside(pods.netns("pod"), "ip", "route", "flush", "default")
        code, error = pods.call("CHECK", "pod", prevResult=pods.results["pod"])
        assert code == 1
        assert error["code"] == 100
        assert "the pod has no default route via 169.254.1.1" in error["msg"]
        pods.add("pod")
        assert pods.call("CHECK", "pod", prevResult=pods.results["pod"]) == (0, None)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("addr del 10.1.2.2/32 dev eth0", "has not the address 10.1.2.2"),
        ("link set eth0 down", "eth0 in the pod is down"),
        ("link del eth0", "the node has no device"),
        ("link set eth0 address 02:00:00:00:00:01", "another device"),
    ],
)
def test_check_names_what_is_not_as_it_was_made(pods: Runtime, damage: str, words: str) -> None:
    with running(pods):
        result = pods.add("pod")
        inside(pods.netns("pod"), "ip", *damage.split())
        code, error = pods.call("CHECK", "pod", prevResult=result)
        assert (code, error["code"]) == (1, 100)
        assert words in error["msg"]


def test_pods_live_on_without_the_agent_and_through_a_restart(pods: Runtime) -> None:
    node = f"/run/netns/{pods.node.namespace}"
    with running(pods):
        pods.add("first")
        pods.add("second")
        kill(pods.node)
    with listening(pods.netns("second"), "10.1.2.3", 8080) as server:
        exchange(pods.netns("first"), server, ("10.1.2.3", 8080))
        with running(pods, "--bpf-ct-global-tcp-max=4096"):
            exchange(pods.netns("first"), server, ("10.1.2.3", 8080))
            exchange(node, server, ("10.1.2.3", 8080))
            assert pods.node.status()["pods"] == 2
            assert pods.call("CHECK", "first", prevResult=pods.results["first"]) == (0, None)
            pods.add("third")
            assert pods.addresses("third") == ["10.1.2.4", "fd01:2::4"]


def test_host_ports_need_no_other_plugin(pods: Runtime) -> None:
    with running(pods):
        pods.add("web")
        pod = {
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "nodeName": "bench",
                "containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 8081}]}],
            },
            "status": {
                "phase": "Running",
                "podIPs": [{"ip": address} for address in pods.addresses("web")],
            },
        }
        write_file(pods.node.manifests / "pod.json", pod)
        wait(lambda: b":8081/TCP" in pods.node.ask("/services")[1], "the host port")
        pods.add("client")
        with listening(pods.netns("web"), "10.1.2.2", 80) as server:
            assert exchange(pods.netns("client"), server, ("192.168.1.31", 8081)) == "10.1.2.3"


def test_one_family_only(pods: Runtime) -> None:
    write_node(pods.node, ("10.9.0.0/28",))
    with running(pods):
        pods.add("pod")
        assert pods.addresses("pod") == ["10.9.0.2"]


def test_ipv6_where_the_runtime_switched_it_off(pods: Runtime) -> None:
    with running(pods):
        place = pods.sandbox("pod")
        inside(place, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        pods.add("pod")
        node = f"/run/netns/{pods.node.namespace}"
        connects(node, place, pods.addresses("pod")[1])


def test_records_are_what_the_agent_knows_of_pods(pods: Runtime) -> None:
    with running(pods):
        result = pods.add("pod")
        (path,) = (pods.node.run / "pods").iterdir()
        record = json.loads(Path(path).read_bytes())
        assert record["namespace"], record["name"] == ("default", "pod")
        assert record["uid"] == "uid-pod"
        assert record["addresses"] == pods.addresses("pod")
        assert record["interface"] == result["interfaces"][0]["name"]
        assert pods.node.ask("/names")[1].count(b"default/pod") == 1
