# SPDX-License-Identifier: Apache-2.0
"""What is wrong between an agent and the API: one line that says what, where, and what to do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubypass.kube.client.permissions import CLUSTER_RULES
from kubypass_lab.box.kubernetes import pki
from tests.kubernetes.cluster import NODE, Cluster
from tests.kubernetes.servers import ADDRESS, PORT
from tests.waiting import wait

WEB = "10.96.1.1:80/TCP"


def one_service(cluster: Cluster) -> None:
    cluster.service("web", "10.96.1.1")
    cluster.slice("web", ["10.1.0.1"])


def waiting(cluster: Cluster, words: str) -> str:
    """The log's line about the API, once it says these words."""

    def found() -> str:
        lines = [line for line in cluster.said().splitlines() if "API away" in line]
        return next((line for line in lines if words in line), "")

    return str(wait(found, words))


def test_each_missing_permission_is_named_with_the_rule_to_add(cluster: Cluster) -> None:
    one_service(cluster)
    cluster.allow([rule for rule in CLUSTER_RULES if rule.resource not in {"services", "pods"}])
    with cluster.agent("--kubeconfig", str(cluster.account()), ready=False):
        line = waiting(
            cluster, "the agent may not list, watch services; list, watch pods; add to its"
        )
        assert '{apiGroups: [""], resources: ["pods"], verbs: ["list", "watch"]}' in line
        cluster.allow(CLUSTER_RULES)
        wait(cluster.healthy, "it goes on by itself", 60)
        wait(lambda: not cluster.problems(), "no problem is left")
        assert cluster.backends(WEB) == ["10.1.0.1:8080/TCP"]


def test_a_permission_to_write_that_is_missing_is_a_problem_and_the_rest_goes_on(
    cluster: Cluster,
) -> None:
    one_service(cluster)
    cluster.allow([rule for rule in CLUSTER_RULES if rule.verbs == ("list", "watch")])
    with cluster.agent("--kubeconfig", str(cluster.account())):
        wait(lambda: len(cluster.problems()) == 2, "a problem of each resource")
        events, nodes = sorted(cluster.problems())
        assert "cannot create events" in events
        assert 'resources: ["events"], verbs: ["create"]' in events
        assert "cannot patch nodes" in nodes
        assert 'resources: ["nodes"], verbs: ["patch"]' in nodes
        cluster.allow(CLUSTER_RULES)
        wait(lambda: not cluster.problems(), "it goes on by itself")


def test_a_token_that_is_refused_is_read_again(cluster: Cluster) -> None:
    one_service(cluster)
    token = cluster.servers.root / "token"
    token.write_text("expired")
    config = cluster.servers.kubeconfig("file", {"tokenFile": str(token)})
    with cluster.agent("--kubeconfig", str(config), ready=False):
        line = waiting(cluster, "Unauthorized (401)")
        assert "token" in line
        token.write_text(cluster.servers.token("kubypass"))
        wait(cluster.healthy, "the new token is used")
        assert cluster.backends(WEB) == ["10.1.0.1:8080/TCP"]


def test_an_exec_plugin_gives_the_token(cluster: Cluster) -> None:
    one_service(cluster)
    given = cluster.servers.root / "credential.json"
    status = {
        "token": cluster.servers.token("kubypass"),
        "expirationTimestamp": "2099-01-01T00:00:00Z",
    }
    given.write_text(json.dumps({"kind": "ExecCredential", "status": status}))
    program = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "cat",
        "args": [str(given)],
        "interactiveMode": "Never",
    }
    config = cluster.servers.kubeconfig("exec", {"exec": program})
    with cluster.agent("--kubeconfig", str(config)):
        assert cluster.backends(WEB) == ["10.1.0.1:8080/TCP"]


def test_the_ca_of_another_cluster(cluster: Cluster) -> None:
    other = cluster.servers.root / "other"
    pki.make_authority(other)
    authority: dict[str, Any] = {"certificate-authority": str(other / "ca.crt")}
    config = cluster.servers.kubeconfig("ca", {}, **authority)
    with cluster.agent("--kubeconfig", str(config), ready=False):
        line = waiting(cluster, "is not signed by the CA that is expected")
        assert f"certificate-authority of kubeconfig {config}" in line


@pytest.mark.parametrize(
    ("name", "alternatives", "days", "words"),
    [
        ("expired", f"IP:{ADDRESS}", -1, "its certificate has expired"),
        ("elsewhere", "IP:192.0.2.1", 30, "its certificate is for another name"),
    ],
)
def test_a_certificate_that_is_wrong(
    cluster: Cluster, name: str, alternatives: str, days: int, words: str
) -> None:
    servers, port = cluster.servers, PORT + 2
    identity = pki.Identity(name, "kube-apiserver", serves=(alternatives,))
    pki.make_certificate(servers.pki, identity, days)
    servers.start(port, certificate=name)
    try:
        servers.wait_answer(port)
        config = servers.kubeconfig(name, {"token": servers.token("kubypass")}, port)
        with cluster.agent("--kubeconfig", str(config), ready=False):
            waiting(cluster, words)
        if name == "elsewhere":
            one_service(cluster)
            by_name = {"tls-server-name": "192.0.2.1"}
            config = servers.kubeconfig(name, {"token": servers.token("kubypass")}, port, **by_name)
            with cluster.agent("--kubeconfig", str(config)):
                assert cluster.backends(WEB) == ["10.1.0.1:8080/TCP"]
    finally:
        servers.kill(port)


def test_a_port_that_speaks_no_tls(cluster: Cluster) -> None:
    config = cluster.servers.kubeconfig("etcd", {}, port=2390)
    with cluster.agent("--kubeconfig", str(config), ready=False):
        waiting(cluster, f"https://{ADDRESS}:2390: connection refused")


def test_the_service_of_the_api_is_refused_as_its_address(cluster: Cluster) -> None:
    """The node's restart would wait for the agent, and the agent for the service."""
    servers = cluster.servers
    environment = {
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        "KUBERNETES_SERVICE_PORT": "443",
        "KUBERNETES_PORT_443_TCP_ADDR": "10.96.0.1",
    }
    done = cluster.refused(**environment, **cluster.service_account())
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "10.96.0.1 is that of a Service" in line
    assert "set KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT of the DaemonSet" in line
    config = servers.kubeconfig("service", {"token": servers.token("kubypass")})
    config.write_text(config.read_text().replace(f"https://{ADDRESS}:{PORT}", "https://10.96.0.1"))
    done = cluster.refused("--kubeconfig", str(config), "--service-cidrs=10.96.0.0/16")
    assert done.returncode == 2
    assert "10.96.0.1 is in service-cidrs, 10.96.0.0/16" in done.stderr


def test_the_service_of_the_api_is_found_out_by_what_the_api_says(cluster: Cluster) -> None:
    """An address on which the server answers, and which is that of default/kubernetes all the same."""
    servers = cluster.servers
    with servers.also_at("10.96.0.1", cluster.node.namespace):
        by_name: dict[str, Any] = {
            "server": f"https://10.96.0.1:{PORT}",
            "tls-server-name": ADDRESS,
        }
        config = servers.kubeconfig("own", {"token": servers.token("kubypass")}, **by_name)
        done = cluster.refused("--kubeconfig", str(config))
    assert done.returncode == 2
    assert "10.96.0.1 is that of a Service" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no source of services; give --manifests PATH or --kubeconfig FILE"),
        (("--kubeconfig", "/nonexistent"), "kubeconfig /nonexistent: No such file or directory"),
        (("--config-map", "x"), "--config-map x: not the name of a ConfigMap"),
        (
            ("--k8s-api-server-urls=ftp://x", "--kubeconfig", "GOOD"),
            "k8s-api-server-urls: 'ftp://x'",
        ),
    ],
    ids=str,
)
def test_a_command_line_that_is_wrong(cluster: Cluster, words: tuple[str, ...], said: str) -> None:
    good = str(cluster.account())
    words = tuple(good if word == "GOOD" else word for word in words)
    if "--config-map" in words:
        words += ("--kubeconfig", good)
    done = cluster.refused(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_in_a_pod_the_service_account_is_used(cluster: Cluster) -> None:
    one_service(cluster)
    environment = {"KUBERNETES_SERVICE_HOST": ADDRESS, "KUBERNETES_SERVICE_PORT": str(PORT)}
    with cluster.agent(environment=environment | cluster.service_account()):
        assert cluster.backends(WEB) == ["10.1.0.1:8080/TCP"]
        assert cluster.status()["agent"]["node"] == NODE
