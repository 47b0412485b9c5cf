# SPDX-License-Identifier: Apache-2.0
"""What a real API says of the node's pods: ports of the node, and what they are excluded from."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.kubernetes.cluster import NODE, Cluster
from tests.kubernetes.pods import PODS, pod, prepare
from tests.waiting import wait


def test_ports_of_the_node_are_those_of_its_own_pods(cluster: Cluster) -> None:
    prepare(cluster)
    with cluster.agent("--kubeconfig", str(cluster.account())):
        pod(cluster, "here", NODE, "10.244.1.5")
        pod(cluster, "there", "elsewhere", "10.244.2.5")
        frontend = "0.0.0.0:9000/TCP"
        wait(lambda: cluster.backends(frontend), "the port")
        assert cluster.backends(frontend) == ["10.244.1.5:8080/TCP"]
        assert cluster.metric('kubypass_kubernetes_events_total{resource="pods"}') <= 3
        cluster.servers.delete(f"{PODS}/here")
        wait(lambda: cluster.backends(frontend) is None, "the port is gone")


def test_labels_of_a_pod_say_whether_its_sockets_are_left_alone(cluster: Cluster) -> None:
    prepare(cluster)
    namespace = f"{cluster.node.namespace}-pod"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    link = ["link", "add", "lxc1", "type", "veth", "peer", "name", "eth0", "netns", namespace]
    subprocess.run(["ip", "-n", cluster.node.namespace, *link], check=True)
    record = {
        "namespace": "default",
        "name": "web",
        "addresses": ["10.244.1.5"],
        "interface": "lxc1",
        "mac": "02:00:00:00:00:01",
        "netns": f"/run/netns/{namespace}",
    }
    words = ["--kubeconfig", str(cluster.account()), "--bpf-lb-sock-exclude-pods=mesh=on"]
    try:
        with cluster.agent(*words):
            temporary = cluster.node.run / "pods/.web"
            temporary.write_text(json.dumps(record))
            temporary.rename(cluster.node.run / "pods/web.json")
            wait(lambda: cluster.status()["pods"] == 1, "the pod's record")
            assert not excluded(cluster)
            pod(cluster, "web", NODE, "10.244.1.5", labels={"mesh": "on"})
            wait(lambda: excluded(cluster) == 1, "its sockets are left alone")
            names = json.loads(cluster.node.ask("/names")[1])
            assert names["packet_pods"] == ["default/web"]
            cluster.servers.change(f"{PODS}/web", {"metadata": {"labels": {"mesh": "off"}}})
            wait(lambda: not excluded(cluster), "and are not any more")
    finally:
        subprocess.run(["ip", "netns", "delete", namespace], check=True)


def excluded(cluster: Cluster) -> int:
    return int(cluster.status()["socket_lb"].get("excluded_pods", 0))


def test_a_refused_bind_is_an_event_of_the_service(cluster: Cluster) -> None:
    cluster.service("web", "10.96.1.1", type="NodePort", ports=[{"port": 80, "nodePort": 30080}])
    cluster.slice("web", ["10.1.0.1"])
    with cluster.agent("--kubeconfig", str(cluster.account())):
        where = f"/run/netns/{cluster.node.namespace}"
        listen = "import socket; s = socket.socket(); s.bind(('0.0.0.0', 30080)); s.listen()"
        inside = f'nsenter --net={where} python3 -c "{listen}"'
        shell = f"echo $$ > {cluster.node.cgroup}/cgroup.procs && exec {inside}"
        done = subprocess.run(["sh", "-c", shell], capture_output=True, check=False, timeout=300)
        assert done.returncode != 0

        def events() -> list[dict[str, Any]]:
            items = cluster.servers.curl("/api/v1/namespaces/default/events")[1]["items"]
            return [item for item in items if item["reason"] == "NodePortBindRefused"]

        (event,) = wait(events, "the event")
        assert event["involvedObject"]["name"] == "web"
        assert event["source"] == {"component": "kubypass", "host": NODE}
        assert "was not let listen on" in event["message"]
