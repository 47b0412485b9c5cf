# SPDX-License-Identifier: Apache-2.0
"""A real agent answers on kube-proxy's ports, over TCP, in a network namespace."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any

import pytest

from kubypass.kernel.netns import inside
from kubypass_lab.bench.cluster import named_service, named_slice, write_file
from kubypass_lab.bench.node import BareNode, agent, bare_node
from kubypass_lab.box.patience import ANSWER_S
from tests.waiting import wait

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")
NODE_ADDRESS = "192.168.1.31"
HEALTH, METRICS, CHECK = 10256, 10249, 31555


@pytest.fixture
def node() -> Iterator[BareNode]:
    with bare_node() as made:
        yield made


def listen(node: BareNode, port: int) -> socket.socket:
    """Someone else's port."""
    with inside(f"/run/netns/{node.namespace}"):
        return socket.create_server(("", port))


def ask(node: BareNode, port: int, path: str, host: str = "127.0.0.1", method: str = "GET") -> Any:
    """Code, body and headers; None where nobody answers."""
    with inside(f"/run/netns/{node.namespace}"):
        connection = http.client.HTTPConnection(host, port, timeout=ANSWER_S)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode(), dict(response.getheaders())
        except (ConnectionError, http.client.HTTPException):
            return None
        finally:
            connection.close()


def check(node: BareNode, port: int = CHECK, host: str = "127.0.0.1") -> tuple[int, int] | None:
    """Code and N of a healthCheckNodePort."""
    answer = ask(node, port, "/any/path", host)
    return answer and (answer[0], json.loads(answer[1])["localEndpoints"])


def balanced(name: str = "web", address: str = "10.96.0.1", port: int = CHECK) -> dict[str, object]:
    service: dict[str, Any] = named_service(name, address)
    service["spec"] |= {
        "type": "LoadBalancer",
        "externalTrafficPolicy": "Local",
        "healthCheckNodePort": port,
    }
    return service


def placed(*places: tuple[str, str, dict[str, bool]], name: str = "web") -> dict[str, object]:
    """A slice of (address, node, conditions)."""
    found = named_slice(name, [], 80)
    found["endpoints"] = [
        {"addresses": [address], "nodeName": where, "conditions": conditions}
        for address, where, conditions in places
    ]
    return found


def problems(node: BareNode) -> list[str]:
    return [f"{p['subject']}: {p['message']}" for p in node.status()["problems"]]


READY, ENDING = {"ready": True}, {"ready": False, "serving": True, "terminating": True}


def test_the_proxys_own_ports(node: BareNode) -> None:
    write_file(node.manifests / "service.json", named_service("web", "10.96.0.1"))
    with agent(node):
        for host in ("127.0.0.1", NODE_ADDRESS, "::1"):
            code, body, headers = ask(node, HEALTH, "/healthz", host)
            assert code == 200
            assert json.loads(body).keys() == {"lastUpdated", "currentTime", "nodeEligible"}
            assert headers["Content-Type"] == "application/json"
            assert headers["X-Content-Type-Options"] == "nosniff"
        code, body, _ = ask(node, HEALTH, "/livez?verbose")
        assert (code, json.loads(body).keys()) == (200, {"lastUpdated", "currentTime"})
        assert ask(node, HEALTH, "/metrics")[0] == 404
        assert ask(node, METRICS, "/proxyMode")[:2] == (200, "ebpf")
        assert ask(node, METRICS, "/healthz")[:2] == (200, "ok")
        assert ask(node, METRICS, "/metrics", NODE_ADDRESS) is None, "only on loopback"
        code, body, headers = ask(node, METRICS, "/metrics")
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert 'kubeproxy_proxy_healthz_total{code="200"} 3' in body
        assert 'kubeproxy_proxy_livez_total{code="200"} 1' in body
        assert 'kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1' in body
        assert "kubeproxy_sync_proxy_rules_service_changes_total 1" in body
        assert "kubypass_services 1" in body
        assert ask(node, METRICS, "/metrics", method="HEAD")[:2] == (200, "")
        assert all(re.match(r"#|\w+(\{[^}]*\})? [-+.e\d]+$", line) for line in body.splitlines())
        assert problems(node) == []
    assert ask(node, HEALTH, "/healthz") is None
    assert ask(node, METRICS, "/metrics") is None


def test_health_checks_follow_their_service(node: BareNode) -> None:
    write_file(node.manifests / "service.json", balanced())
    here, there = ("10.1.0.1", "bench", READY), ("10.1.0.2", "other", READY)
    with agent(node):
        code, body, headers = ask(node, CHECK, "/", NODE_ADDRESS)
        assert (code, json.loads(body)) == (
            503,
            {
                "service": {"namespace": "default", "name": "web"},
                "localEndpoints": 0,
                "serviceProxyHealthy": True,
            },
        )
        assert headers["X-Load-Balancing-Endpoint-Weight"] == "0"
        assert headers["X-Content-Type-Options"] == "nosniff"
        write_file(node.manifests / "slice.json", placed(here, there))
        wait(lambda: check(node) == (200, 1), "one endpoint here")
        for host in (NODE_ADDRESS, "::1"):
            assert check(node, host=host) == (200, 1)
        write_file(node.manifests / "slice.json", placed(("10.1.0.1", "bench", ENDING), there))
        wait(lambda: check(node) == (503, 0), "a terminating one does not count")
        write_file(node.manifests / "slice.json", placed(here, ("10.1.0.3", "bench", READY)))
        wait(lambda: check(node) == (200, 2), "two endpoints here")
        write_file(node.manifests / "service.json", balanced(port=CHECK + 1))
        wait(lambda: check(node, CHECK + 1) == (200, 2), "the new port")
        assert check(node) is None
        write_file(node.manifests / "service.json", named_service("web", "10.96.0.1"))
        wait(lambda: check(node, CHECK + 1) is None, "no port without the policy")
        write_file(node.manifests / "service.json", balanced())
        wait(lambda: check(node) == (200, 2), "the port again")
    assert check(node) is None
    with agent(node):
        assert check(node) == (200, 2), "at once after a restart"


def test_a_port_that_is_taken_is_a_problem_and_tried_again(node: BareNode) -> None:
    write_file(node.manifests / "slice.json", placed(("10.1.0.1", "bench", READY)))
    write_file(node.manifests / "service.json", balanced())
    write_file(node.manifests / "other.json", balanced("other", "10.96.0.2", CHECK + 1))
    with closing(listen(node, CHECK)), closing(listen(node, HEALTH)), agent(node):
        first, second = sorted(problems(node))
        assert first.startswith("Service default/web: FailedToStartServiceHealthcheck: ")
        assert f"0.0.0.0:{CHECK}: Address already in use" in first
        assert second.startswith("Setting kube-proxy-replacement-healthz-bind-address: ")
        assert check(node, CHECK + 1) == (503, 0), "other services go on"
        assert check(node, host="::1") == (200, 1), "the other family goes on"
        assert ask(node, METRICS, "/proxyMode")[0] == 200
    with closing(listen(node, CHECK)) as taken, agent(node):
        assert len(problems(node)) == 1
        taken.close()
        wait(lambda: check(node) == (200, 1), "the port, once it is free")
        assert problems(node) == []


def test_two_services_with_one_health_check_port(node: BareNode) -> None:
    write_file(node.manifests / "service.json", balanced())
    write_file(node.manifests / "rival.json", balanced("zweb", "10.96.0.2"))
    with agent(node):
        found = problems(node)
        assert all(line.startswith("Service default/zweb: Failed") for line in found)
        assert "the port is that of Service default/web" in found[0]
        (node.manifests / "service.json").unlink()
        wait(lambda: not problems(node), "the rival to have it")
        answer = json.loads(ask(node, CHECK, "/")[1])
        assert answer["service"]["name"] == "zweb"


def test_slow_clients_keep_nobody_else_from_a_port(node: BareNode) -> None:
    write_file(node.manifests / "service.json", balanced())
    write_file(node.manifests / "slice.json", placed(("10.1.0.1", "bench", READY)))
    with agent(node), inside(f"/run/netns/{node.namespace}"), ExitStack() as opened:
        slow = [
            opened.enter_context(socket.create_connection(("127.0.0.1", port)))
            for port in (HEALTH, CHECK, METRICS)
            for _ in range(100)
        ]
        for number in range(80):
            for client in slow[number::80]:
                with suppress(OSError):  # it may have been cut off
                    client.send(b"G")
            assert ask(node, HEALTH, "/healthz")[0] == 200
            assert check(node) == (200, 1)
            assert ask(node, METRICS, "/proxyMode")[0] == 200


def test_other_addresses_and_none(node: BareNode) -> None:
    options = (
        "--kube-proxy-replacement-healthz-bind-address=",
        "--metrics-bind-address=[::1]:9100",
    )
    with agent(node, *options):
        assert ask(node, HEALTH, "/healthz") is None
        assert ask(node, METRICS, "/metrics") is None
        assert ask(node, 9100, "/metrics", "::1")[0] == 200
    with agent(node, "--enable-ipv6=false"):
        assert ask(node, HEALTH, "/healthz")[0] == 200
        assert ask(node, HEALTH, "/healthz", "::1") is None


@pytest.mark.parametrize("sign", ["taint", "deletion"])
def test_a_node_that_leaves_asks_load_balancers_for_nothing_new(node: BareNode, sign: str) -> None:
    path = node.manifests / "node.json"
    own = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"}, "spec": {}}
    write_file(path, own)
    with agent(node, "--node", "node1"):
        assert ask(node, HEALTH, "/healthz")[0] == 200
        leaving = json.loads(json.dumps(own))
        if sign == "taint":
            leaving["spec"]["taints"] = [
                {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}
            ]
        else:
            leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        write_file(path, leaving)
        answer = wait(lambda: (a := ask(node, HEALTH, "/healthz"))[0] == 503 and a, "503")
        assert json.loads(answer[1])["nodeEligible"] is False
        assert ask(node, HEALTH, "/livez")[0] == 200
        write_file(path, own)
        wait(lambda: ask(node, HEALTH, "/healthz")[0] == 200, "200 again")
