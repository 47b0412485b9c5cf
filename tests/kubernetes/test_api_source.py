# SPDX-License-Identifier: Apache-2.0
"""An agent that follows a real API server: what it serves, what it writes, what it survives."""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from typing import Any

from kubypass.kube.watch.resources import TRIGGER_ANNOTATION
from tests.kubernetes.cluster import NODE, TAINT, Cluster
from tests.kubernetes.servers import ADDRESS, PORT
from tests.waiting import wait

WEB, WEB_ADDRESS = "10.96.1.1:80/TCP", "10.96.1.1"


def one_service(cluster: Cluster) -> None:
    cluster.service("web", WEB_ADDRESS)
    cluster.slice("web", ["10.1.0.1"])


def test_services_are_served_changed_and_gone(cluster: Cluster) -> None:
    one_service(cluster)
    with cluster.agent("--kubeconfig", str(cluster.account())):
        assert cluster.backends(WEB) == ["10.1.0.1:8080/TCP"]
        assert cluster.backends("10.96.0.1:443/TCP") == ["172.31.255.1:6443/TCP"]
        cluster.slice("web", ["10.1.0.1", "10.1.0.2"])
        wait(lambda: len(cluster.backends(WEB) or ()) == 2, "the second backend")
        cluster.servers.delete("/api/v1/namespaces/default/services/web")
        wait(lambda: cluster.backends(WEB) is None, "the service is gone")
        assert cluster.status()["kubernetes"]["text"].startswith("Ok   1.34 (v1.34.4)")
        assert not cluster.problems()


def test_the_taint_is_taken_away_when_it_is_ready_and_again_when_it_comes_back(
    cluster: Cluster,
) -> None:
    path = f"/api/v1/nodes/{NODE}"

    def taints() -> list[str]:
        return [taint["key"] for taint in cluster.servers.curl(path)[1]["spec"].get("taints", ())]

    with cluster.agent("--kubeconfig", str(cluster.account())):
        wait(lambda: TAINT not in taints(), "the taints are gone")
        assert "other" in taints()
        cluster.servers.change(path, {"spec": {"taints": [{"key": TAINT, "effect": "NoSchedule"}]}})
        assert TAINT in taints()
        wait(lambda: TAINT not in taints(), "the taint is gone again")
        assert not cluster.problems()


def test_a_server_that_restarts_costs_no_write(cluster: Cluster) -> None:
    one_service(cluster)
    with cluster.agent("--kubeconfig", str(cluster.account())):
        before = cluster.writes()
        cluster.servers.kill()
        wait(lambda: not cluster.connected(), "the API is away")
        text = cluster.status()["kubernetes"]["text"]
        assert "disconnected since" in text
        assert text.endswith("the datapath stays as it is")
        assert cluster.backends(WEB) == ["10.1.0.1:8080/TCP"]
        cluster.servers.start()
        cluster.servers.wait_ready()
        wait(cluster.connected, "the API is back")
        cluster.slice("web", ["10.1.0.9"])
        wait(lambda: cluster.backends(WEB) == ["10.1.0.9:8080/TCP"], "a change is followed")
        cluster.slice("web", ["10.1.0.1"])
        wait(lambda: cluster.backends(WEB) == ["10.1.0.1:8080/TCP"], "and back")
        assert cluster.metric("kubypass_kubernetes_reconnects_total") == 1
        assert cluster.writes() > before
        assert not cluster.problems()
    lines = [line for line in cluster.said().splitlines() if "API away" in line]
    assert 1 <= len(lines) <= 4, lines


def test_what_changed_while_the_history_was_lost_is_found_and_nothing_else_is_written(
    cluster: Cluster,
) -> None:
    for number in range(20):
        cluster.service(f"s{number}", f"10.96.2.{number}")
        cluster.slice(f"s{number}", [f"10.1.2.{number}"])
    with cluster.agent("--kubeconfig", str(cluster.account())):
        with cluster.away():
            cluster.servers.delete("/api/v1/namespaces/default/services/s7")
            cluster.slice("s8", ["10.1.2.88"])
            cluster.service("new", "10.96.2.99")
            cluster.slice("new", ["10.1.2.99"])
            cluster.servers.kill()  # and with it what it remembers
            cluster.servers.compact()
            cluster.servers.start()
            cluster.servers.wait_ready()
            before = cluster.writes()
        wait(cluster.connected, "the API is back", 60)
        wait(lambda: cluster.backends("10.96.2.99:80/TCP"), "the new service")
        assert cluster.backends("10.96.2.8:80/TCP") == ["10.1.2.88:8080/TCP"]
        assert cluster.backends("10.96.2.7:80/TCP") is None
        assert cluster.metric("kubypass_kubernetes_relists_total") >= 1
        assert 0 < cluster.writes() - before < 16  # two services' entries, not twenty's


def test_without_streaming_lists_everything_is_listed_page_by_page(cluster: Cluster) -> None:
    cluster.servers.kill()
    cluster.servers.start(PORT, "--feature-gates=WatchList=false")
    cluster.servers.wait_ready()
    one_service(cluster)
    try:
        with cluster.agent("--kubeconfig", str(cluster.account())):
            assert cluster.backends(WEB) == ["10.1.0.1:8080/TCP"]
            cluster.slice("web", ["10.1.0.2"])
            wait(lambda: cluster.backends(WEB) == ["10.1.0.2:8080/TCP"], "a change is followed")
            assert not cluster.problems()
    finally:
        cluster.servers.kill()
        cluster.servers.start()
        cluster.servers.wait_ready()


def test_before_the_first_complete_sync_nothing_is_touched(cluster: Cluster) -> None:
    one_service(cluster)
    config = str(cluster.account())
    with cluster.agent("--kubeconfig", config):
        pass
    cluster.servers.kill()
    try:
        with cluster.agent("--kubeconfig", config, ready=False):
            wait((cluster.node.run / "agent.sock").exists, "the agent's socket")
            wait(lambda: cluster.node.ask("/healthz")[0] == 503, "it is not ready")
            wait(lambda: "API away" in cluster.said(), "it says why")
            text = cluster.status()["kubernetes"]["text"]
            assert text.endswith("waiting for the first complete sync")
            assert cluster.proxy_health("/healthz")[0] == 503
            assert cluster.proxy_health("/livez")[0] == 200
            assert list((cluster.node.root / "bpf/kubypass").rglob("services"))
            cluster.servers.start()
            cluster.servers.wait_ready()
            wait(cluster.healthy, "it is ready")
            assert cluster.backends(WEB) == ["10.1.0.1:8080/TCP"]
            assert cluster.writes() == 0
    finally:
        if not cluster.servers.processes.get(str(PORT)):
            cluster.servers.start()
            cluster.servers.wait_ready()


def test_the_next_server_when_one_fails(cluster: Cluster) -> None:
    one_service(cluster)
    second = PORT + 1
    cluster.servers.start(second)
    cluster.servers.wait_ready(second)
    urls = f"https://{ADDRESS}:{PORT},https://{ADDRESS}:{second}"
    try:
        with cluster.agent("--kubeconfig", str(cluster.account()), f"--k8s-api-server-urls={urls}"):
            cluster.servers.kill(PORT)
            wait(lambda: f":{second}" in cluster.status()["kubernetes"]["server"], "the second one")
            wait(cluster.connected, "it is followed")
            cluster.slice("web", ["10.1.0.7"], second)
            wait(lambda: cluster.backends(WEB) == ["10.1.0.7:8080/TCP"], "a change is followed")
            cluster.servers.start(PORT)
            cluster.servers.wait_ready(PORT)
            cluster.servers.kill(second)
            wait(lambda: f":{PORT}]" in cluster.status()["kubernetes"]["text"], "and back")
            cluster.slice("web", ["10.1.0.8"])
            wait(lambda: cluster.backends(WEB) == ["10.1.0.8:8080/TCP"], "a change is followed")
            assert cluster.metric("kubypass_kubernetes_failovers_total") >= 2
    finally:
        if str(second) in cluster.servers.processes:
            cluster.servers.kill(second)


def test_a_server_that_says_nothing_any_more_is_left(cluster: Cluster) -> None:
    one_service(cluster)
    config = str(cluster.account())
    with cluster.agent("--kubeconfig", config, "--k8s-heartbeat-timeout=2s"):
        process = cluster.servers.processes[str(PORT)]
        process.send_signal(signal.SIGSTOP)
        try:
            wait(lambda: not cluster.connected(), "it is noticed", 60)
        finally:
            process.send_signal(signal.SIGCONT)
        wait(cluster.connected, "it is followed again", 60)
        cluster.slice("web", ["10.1.0.3"])
        wait(lambda: cluster.backends(WEB) == ["10.1.0.3:8080/TCP"], "a change is followed")


def test_delays_are_measured_from_the_cause(cluster: Cluster) -> None:
    one_service(cluster)
    with cluster.agent("--kubeconfig", str(cluster.account())):
        cause = datetime.now(UTC)
        annotations: dict[str, Any] = {TRIGGER_ANNOTATION: cause.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
        cluster.slice("web", ["10.1.0.4"], **annotations)
        wait(lambda: cluster.backends(WEB) == ["10.1.0.4:8080/TCP"], "the change")
        name = "kubeproxy_network_programming_duration_seconds"
        assert cluster.metric(f"{name}_count") == 2  # a value for each family
        passed_s = (datetime.now(UTC) - cause).total_seconds()
        assert 0 < cluster.metric(f"{name}_sum") <= 2 * passed_s
