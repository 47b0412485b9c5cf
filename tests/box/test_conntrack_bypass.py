# SPDX-License-Identifier: Apache-2.0
"""Netfilter tracks no connection of pods with legacy host routing, unless rules of others need it to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kubypass_lab.box.process import wait_until
from kubypass_lab.box.steps_outside import PORT as OUTSIDE_PORT
from tests.box import firewall
from tests.box.conftest import Cluster
from tests.box.forwarding_scene import forwarding_scene
from tests.box.pings import OUTSIDE
from tests.box.scene import Scene
from tests.box.scene_objects import ALL, Port

pytestmark = pytest.mark.xdist_group("host-routing")
NODES = ("node1", "node2")
SETTINGS = """\
enable-host-legacy-routing: "true"
install-no-conntrack-iptables-rules: "true"
"""
KEY = "Setting install-no-conntrack-iptables-rules"
MASQUERADE = """
table ip site {
  chain out {
    type nat hook postrouting priority srcnat;
    ip saddr 10.233.64.0/18 oifname "eth0" masquerade
  }
}
"""


@pytest.fixture(scope="module")
def untracked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Both options, below the firewall, which accepts what is not tracked."""
    directory = tmp_path_factory.mktemp("untracked")
    with forwarding_scene("nct", directory, SETTINGS) as scene:
        firewall.set_up(scene.box)
        yield scene


def row(scene: Scene, node: str = "node1") -> dict[str, object]:
    found = Cluster(scene.box).status(node)["conntrack_bypass"]
    assert isinstance(found, dict)
    return found


def is_on(scene: Scene) -> bool:
    return all(row(scene, node)["effective"] == "Enabled" for node in NODES)


def test_no_connection_of_a_pod_is_tracked(untracked: Scene) -> None:
    scene = untracked
    assert wait_until(lambda: is_on(scene)), row(scene)
    before = [firewall.counted(scene.box, node) for node in NODES]
    for protocol in ("TCP", "UDP"):
        service = scene.put(scene.service(Port(80, 8080, protocol), node_ports=True))
        scene.check(service, [
            *(("client", to, ALL) for to in ("cluster", "node1", "node2")),
            *(("pod1", to, ALL) for to in ("cluster", "node1")),
            ("a1", "cluster", ALL),
            ("node1", "cluster", ALL),
        ])  # fmt: skip
        for version in (4, 6):
            (answer,) = scene.call("pod1", OUTSIDE[version].strip("[]"), OUTSIDE_PORT, protocol)
            seen = str(answer["client"]).rpartition(":")[0].strip("[]")
            assert seen == scene.address("node1", version)
    for node, earlier in zip(NODES, before, strict=True):
        assert firewall.tracked(scene, node) == []
        now = firewall.counted(scene.box, node)
        assert now["untracked"] > earlier["untracked"], now
        assert now["established"] == earlier["established"], now
        assert now["dropped"] == earlier["dropped"], now
    scene.clear()


def test_a_rule_of_others_that_needs_it_keeps_it_off(untracked: Scene) -> None:
    """It is named, and the rule goes on to work; once it is gone, the connections are skipped again."""
    scene = untracked
    assert wait_until(lambda: is_on(scene))
    firewall.nft(scene.box, "node1", script=MASQUERADE)
    try:
        assert wait_until(lambda: row(scene)["effective"] == "Disabled")
        assert "ip site out, rule" in str(row(scene)["why"])
        (problem,) = Cluster(scene.box).problems(KEY)
        assert "stays off" in problem
        assert "(masq)" in problem
        assert "kubypass" not in firewall.nft(scene.box, "node1", "list", "tables")
        assert row(scene, "node2")["effective"] == "Enabled"
    finally:
        firewall.nft(scene.box, "node1", "delete", "table", "ip", "site")
    assert wait_until(lambda: is_on(scene)), row(scene)
    assert not Cluster(scene.box).problems(KEY)


def test_rules_that_somebody_removes_come_back(untracked: Scene) -> None:
    scene = untracked
    assert wait_until(lambda: is_on(scene))
    theirs = firewall.nft(scene.box, "node1", "list", "table", "inet", "firewall")
    firewall.nft(scene.box, "node1", "delete", "table", "inet", "kubypass")

    def is_back() -> bool:
        return "kubypass" in firewall.nft(scene.box, "node1", "list", "tables")

    assert wait_until(is_back)
    here = firewall.nft(scene.box, "node1", "list", "table", "inet", "firewall")
    assert theirs.count("counter") == here.count("counter")
