# SPDX-License-Identifier: Apache-2.0
"""A pod's annotation and the ConfigMap of a real API: both switch the check of its sources while the agent runs."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from kubypass.kernel.netns import inside
from tests.kubernetes.cluster import CONFIG_MAPS, NODE, Cluster
from tests.kubernetes.pods import PODS, pod, prepare
from tests.kubernetes.settings import arguments, config_map
from tests.waiting import wait

ADDRESS, OTHER, HERE = "10.244.1.5", "203.0.113.9", "192.168.1.31"
MAC, GATEWAY = "02:00:00:00:00:01", "02:00:00:00:00:02"
KEY = "enable-source-ip-verification"


class Sender:
    """A pod that sends to its node in two names: its own, and another's."""

    def __init__(self, namespace: str, node: str) -> None:
        self._number = itertools.count(1)
        with inside(namespace):
            self._device = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self._device.bind(("eth0", 0))
        with inside(node):
            self._heard = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
            self._heard.settimeout(0.1)

    def close(self) -> None:
        self._device.close()
        self._heard.close()

    def _send(self, source: str, words: bytes) -> None:
        packet = IP(src=source, dst=HERE) / UDP(sport=4, dport=9) / words
        self._device.send(bytes(Ether(src=MAC, dst=GATEWAY) / packet))

    def is_heard(self) -> bool:
        """Whether the node hears what the pod says in another's name, before what it says in its own."""
        number = next(self._number)
        forged, own = f"forged {number}!".encode(), f"own {number}!".encode()
        self._send(OTHER, forged)
        self._send(ADDRESS, own)
        found: list[bytes] = []

        def ends() -> bool:
            try:
                found.append(self._heard.recv(65536))
            except TimeoutError:
                self._send(ADDRESS, own)
            return any(own in each for each in found)

        wait(ends, "the pod's own packet")
        return any(forged in each for each in found)

    def obeys(self, heard: bool) -> bool:
        """Whether the node hears it, or does not, as it should."""
        return self.is_heard() == heard


@pytest.fixture
def sender(cluster: Cluster) -> Iterator[Sender]:
    prepare(cluster)
    with linked_pod(cluster) as namespace:
        made = Sender(f"/run/netns/{namespace}", f"/run/netns/{cluster.node.namespace}")
        yield made
        made.close()


@contextmanager
def linked_pod(cluster: Cluster) -> Iterator[str]:
    """A pod's network namespace, with its record; its name."""
    namespace = f"{cluster.node.namespace}-pod"
    lines = [
        f"link add lxc1 address {GATEWAY} type veth peer name eth0 address {MAC} netns {namespace}",
        "link set lxc1 up",
        f"route add {ADDRESS}/32 dev lxc1",
    ]
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        for where, batch in ((cluster.node.namespace, lines), (namespace, ["link set eth0 up"])):
            words = ["ip", "-n", where, "-batch", "-"]
            subprocess.run(words, input="\n".join(batch), text=True, check=True)
        record = {"namespace": "default", "name": "web", "addresses": [ADDRESS], "mac": MAC}
        record |= {"interface": "lxc1", "netns": f"/run/netns/{namespace}"}
        (cluster.node.run / "pods").mkdir(parents=True, exist_ok=True)
        (cluster.node.run / "pods/web.json").write_text(json.dumps(record))
        yield namespace
    finally:
        subprocess.run(["ip", "netns", "delete", namespace], check=True)


def test_an_annotation_counts_at_once(cluster: Cluster, sender: Sender) -> None:
    path = f"{PODS}/web"
    with cluster.agent("--kubeconfig", str(cluster.account())):
        wait(lambda: cluster.status()["pods"] == 1, "the pod's record")
        assert not sender.is_heard()
        pod(cluster, "web", NODE, ADDRESS)
        assert not sender.is_heard()
        for value, heard in (("allowed", True), ("no", False), ("allowed", True)):
            annotations = {"kubypass.io/foreign-sources": value}
            cluster.servers.change(path, {"metadata": {"annotations": annotations}})
            wait(partial(sender.obeys, heard), f"{value} to count")
            exempt = cluster.status()["source_ip_verification"].get("exempt_pods", 0)
            assert exempt == heard
        cluster.servers.delete(path)
        wait(lambda: not sender.is_heard(), "the pod's rights to go with it")


def test_the_setting_counts_at_once(cluster: Cluster, sender: Sender) -> None:
    config_map(cluster, enable_source_ip_verification="true")
    with cluster.agent(*arguments(cluster)):
        wait(lambda: cluster.status()["pods"] == 1, "the pod's record")
        assert not sender.is_heard()
        pid = cluster.status()["agent"]["pid"]
        for value, heard in (("false", True), ("true", False)):
            cluster.servers.change(f"{CONFIG_MAPS}/kubypass-config", {"data": {KEY: value}})
            wait(partial(sender.obeys, heard), f"{value} to count")
            said = cluster.status()["source_ip_verification"]["effective"]
            assert said == {"false": "Disabled", "true": "Enabled"}[value]
        assert cluster.status()["agent"]["pid"] == pid
