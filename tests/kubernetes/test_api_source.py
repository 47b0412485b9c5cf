# SPDX-License-Identifier: Apache-2.0
"""An agent that follows a real API server: what it serves, what it writes, what it survives."""

from __future__ import annotations

from servers import wait

WEB, WEB_ADDRESS = "10.96.1.1:80/TCP", "10.96.1.1"


def one_service(cluster) -> None:
    cluster.service("web", WEB_ADDRESS)
    cluster.slice("web", ["10.1.0.1"])


def test_services_are_served_changed_and_gone(cluster):
    one_service(cluster)
    with cluster.agent("--kubeconfig", str(cluster.account())):
        assert cluster.backends(WEB) == ["10.1.0.1:8080/TCP"]
        assert cluster.backends("10.96.0.1:443/TCP") == ["172.31.255.1:6443/TCP"]
        cluster.slice("web", ["10.1.0.1", "10.1.0.2"])
        wait(lambda: len(cluster.backends(WEB)) == 2, "the second backend")
        cluster.servers.delete("/api/v1/namespaces/default/services/web")
        wait(lambda: cluster.backends(WEB) is None, "the service is gone")
        assert cluster.status()["kubernetes"]["text"].startswith("Ok   1.34 (v1.34.4)")
        assert not cluster.problems()
