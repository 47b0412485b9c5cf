# SPDX-License-Identifier: Apache-2.0
"""Who may listen where: processes of the node do not get NodePorts, pods get what they like."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kubypass_lab.box import agents
from kubypass_lab.box.apply import apply_files
from kubypass_lab.box.process import wait_until
from kubypass_lab.box.steps_basic import WILDCARDS
from tests.box.conftest import Cluster

BIND = """
import errno, json, socket, sys
answers = []
for kind, address, port in json.loads(sys.argv[1]):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, getattr(socket, kind)) as made:
        try:
            made.bind((address, port))
            if kind == "SOCK_STREAM":
                made.listen()
            answers.append("ok")
        except OSError as error:
            answers.append(errno.errorcode[error.errno])
print(json.dumps(answers))
"""
ADDRESSES = {
    "any": WILDCARDS[4],
    "any ipv6": WILDCARDS[6],
    "loopback": "127.0.0.1",
    "loopback ipv6": "::1",
    "mapped any": f"::ffff:{WILDCARDS[4]}",
}
KINDS = {"TCP": "SOCK_STREAM", "UDP": "SOCK_DGRAM"}


def bind(cluster: Cluster, place: str, wanted: list[tuple[str, str, int]]) -> list[str]:
    """What becomes of sockets (kind, address, port) in a place."""
    answer = cluster.run(place, "python3", "-c", BIND, json.dumps(wanted))
    return [str(each) for each in json.loads(answer)]


def own_addresses(cluster: Cluster, place: str) -> dict[str, str]:
    """A place's own addresses, one a family."""
    shown = json.loads(cluster.run(place, "ip", "-j", "address", "show", "dev", "eth0"))
    found = [entry["local"] for entry in shown[0]["addr_info"] if entry["scope"] == "global"]
    v4 = next(text for text in found if ":" not in text)
    v6 = next(text for text in found if ":" in text)
    return {"own": v4, "own ipv6": v6, "own mapped": f"::ffff:{v4}"}


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_the_node_does_not_get_node_ports_and_pods_do(cluster: Cluster, protocol: str) -> None:
    port, kind = cluster.node_port("echo", protocol), KINDS[protocol]
    for place, expected in (("node1", "EADDRINUSE"), ("pod1", "ok")):
        addresses = {**ADDRESSES, **own_addresses(cluster, place)}
        answers = bind(cluster, place, [(kind, address, port) for address in addresses.values()])
        assert dict(zip(addresses, answers, strict=True)) == dict.fromkeys(addresses, expected)


def test_the_node_gets_every_other_port(cluster: Cluster) -> None:
    """A port of the other protocol (my-nginx has no UDP), one on another address, and one that the kernel chooses."""
    port = cluster.node_port("my-nginx")
    wanted = [
        ("SOCK_DGRAM", WILDCARDS[4], port),
        ("SOCK_STREAM", WILDCARDS[4], 0),
        ("SOCK_STREAM", WILDCARDS[6], 0),
        ("SOCK_STREAM", WILDCARDS[4], 8080),
        ("SOCK_STREAM", WILDCARDS[6], 80),
    ]
    assert bind(cluster, "node1", wanted) == ["ok"] * len(wanted)


def test_a_refusal_names_the_process_and_the_service(cluster: Cluster) -> None:
    port, node = cluster.node_port("echo", "UDP"), cluster.box.nodes[0].name
    address = own_addresses(cluster, "node1")["own"]
    assert bind(cluster, "node1", [("SOCK_DGRAM", address, port)]) == ["EADDRINUSE"]

    def found() -> list[str]:
        status = agents.ask(cluster.box.paths, node, "/status")
        problems, drops = status["problems"], status["drops"]
        assert isinstance(problems, list)
        assert isinstance(drops, list)
        assert "node_port_taken" in {drop["reason"] for drop in drops}
        subject = f"Service default/echo (node port {port}/UDP)"
        return [str(each["message"]) for each in problems if each["subject"] == subject]

    assert wait_until(lambda: any(f"{address}:{port}" in text for text in found()))
    assert found()[0].startswith("python3 (pid ")
    log = (cluster.box.paths.agent_run(node) / "agent.log").read_text()
    assert f'bind refused subject="Service default/echo (node port {port}/UDP)"' in log


CHECKED = """
apiVersion: v1
kind: Service
metadata: {name: checked}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 32123
  selector: {app: echo}
  ports: [{port: 80, targetPort: web}]
"""


def test_the_agent_has_its_own_ports(cluster: Cluster, tmp_path: Path) -> None:
    """A healthCheckNodePort is a port of the agent on the node, and no NodePort."""
    manifest = tmp_path / "checked.yaml"
    manifest.write_text(CHECKED)
    apply_files(cluster.box, [manifest], print)
    url = f"http://{cluster.host(4, 'node1')}:32123/"
    ask = (
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "--retry",
        "20",
        "--retry-delay",
        "1",
    )
    assert cluster.run("node1", *ask, "--retry-connrefused", url) == "200"
