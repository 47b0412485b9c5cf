# SPDX-License-Identifier: Apache-2.0
"""Settings from a ConfigMap of a real cluster: for all nodes, for some, and what happens to those that change."""

from __future__ import annotations

import json
import subprocess

from kubypass.kube.client.permissions import CLUSTER_RULES
from tests.kubernetes.cluster import CONFIG_MAPS, NODE, Cluster
from tests.kubernetes.servers import ADDRESS, PORT
from tests.kubernetes.settings import NAME, arguments, config_map
from tests.waiting import wait

EDGE = {
    "metadata": {
        "name": "edge",
        "labels": {"kubypass.io/node-config": "true"},
        "annotations": {"kubypass.io/node-selector": "pool=edge"},
    },
    "data": {"masquerade-all": "true"},
}


def detail(cluster: Cluster, name: str) -> str:
    return str(cluster.status()["details"][name])


def notes(cluster: Cluster) -> list[str]:
    return [note for note in cluster.status()["notes"] if NAME in note]


def test_settings_are_read_before_anything_begins_and_some_are_for_some_nodes(
    cluster: Cluster,
) -> None:
    config_map(cluster, session="x", node_port_range="30000,30999", masquerade_all="false")
    cluster.servers.create(CONFIG_MAPS, EDGE)
    elsewhere = json.loads(json.dumps(EDGE))
    elsewhere["metadata"] |= {"name": "elsewhere"}
    elsewhere["metadata"]["annotations"] = {"kubypass.io/node-selector": "pool=core"}
    elsewhere["data"] = {"node-port-range": "31000,31999"}
    cluster.servers.create(CONFIG_MAPS, elsewhere)
    try:
        with cluster.agent(*arguments(cluster)):
            assert detail(cluster, "NodePort") == "Enabled (Range: 30000-30999)"
            assert detail(cluster, "Masquerade All") == "Enabled"
            assert any(
                "session" in note and "unknown key" in note for note in cluster.status()["notes"]
            )
    finally:
        cluster.servers.delete(f"{CONFIG_MAPS}/elsewhere")


def test_a_changed_value_says_when_it_takes_effect(cluster: Cluster) -> None:
    config_map(cluster, node_port_range="30000,30999")
    with cluster.agent(*arguments(cluster)):
        path = f"{CONFIG_MAPS}/kubypass-config"
        cluster.servers.change(path, {"data": {"node-port-range": "31000,31999"}})
        (note,) = wait(lambda: notes(cluster), "a note")
        assert '"31000,31999", was "30000,30999"; takes effect when the agent is restarted' in note
        assert detail(cluster, "NodePort") == "Enabled (Range: 30000-30999)"
        cluster.servers.change(path, {"data": {"node-port-range": "x"}})
        (note,) = wait(lambda: [n for n in notes(cluster) if '"x"' in n], "a wrong value")
        assert "expected" in note
        assert '"30000,30999" stays in use' in note
        cluster.servers.change(path, {"data": {"node-port-range": "30000,30999"}})
        wait(lambda: not notes(cluster), "nothing to say")
        cluster.servers.change(path, {"data": {"auto-direct-node-routes": "true"}})
        wait(lambda: "takes_effect=now" in cluster.said(), "a live setting")
        other = {
            "metadata": {"name": "far"},
            "spec": {"podCIDR": "10.9.0.0/24", "podCIDRs": ["10.9.0.0/24"]},
        }
        cluster.servers.create("/api/v1/nodes", other)
        addresses = {"addresses": [{"type": "InternalIP", "address": "192.168.1.77"}]}
        cluster.servers.change("/api/v1/nodes/far/status", {"status": addresses})
        wait(lambda: cluster.status()["writes"]["routes"] == 1, "a route to the other node")
        assert not notes(cluster)


def test_host_routing_changes_while_the_agent_runs(cluster: Cluster) -> None:
    config_map(cluster, cluster_cidr="10.233.64.0/18")
    path = f"{CONFIG_MAPS}/kubypass-config"
    sysctl = ["ip", "netns", "exec", cluster.node.namespace, "cat"]
    redirects = "/proc/sys/net/ipv4/conf/all/send_redirects"

    def line(field: str) -> str:
        return str(cluster.status()[field]["effective"])

    def value() -> str:
        done = subprocess.run([*sysctl, redirects], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    with cluster.agent(*arguments(cluster)):
        before = value()
        assert line("host_routing") == "BPF"
        both = {
            "enable-host-legacy-routing": "true",
            "install-no-conntrack-iptables-rules": "true",
        }
        cluster.servers.change(path, {"data": both})
        wait(lambda: line("host_routing") == "Legacy", "legacy host routing")
        wait(lambda: line("conntrack_bypass") == "Enabled", "connections are not tracked")
        assert value() == "0"
        assert not notes(cluster)
        cluster.servers.change(path, {"data": dict.fromkeys(both, "false")})
        wait(lambda: line("host_routing") == "BPF", "BPF host routing")
        wait(lambda: line("conntrack_bypass") == "Disabled", "connections are tracked")
        wait(lambda: value() == before, "the sysctl is back")


def test_masquerading_changes_while_the_agent_runs(cluster: Cluster) -> None:
    """By family: the programs are replaced, and the maps that they ask follow."""
    off = {4: "enable-ipv4-masquerade", 6: "enable-ipv6-masquerade"}
    config_map(cluster, cluster_cidr="10.244.0.0/16", enable_ipv6="false")
    path = f"{CONFIG_MAPS}/kubypass-config"

    def state() -> tuple[list[int], int]:
        row = cluster.status()["masquerading"]
        return row.get("families", []), row.get("inside", 0)

    with cluster.agent(*arguments(cluster)):
        pid, (families, inside) = cluster.status()["agent"]["pid"], state()
        assert families == [4]
        assert inside
        for value, wanted in (("false", ([], 0)), ("true", ([4], inside)), ("false", ([], 0))):
            cluster.servers.change(path, {"data": {off[4]: value}})
            wait(lambda: state() == wanted, f"{off[4]}: {value}")  # noqa: B023
            assert not notes(cluster)
        assert cluster.status()["masquerading"]["effective"] == "Disabled"
        cluster.servers.change(path, {"data": {off[4]: "perhaps"}})
        (note,) = wait(lambda: notes(cluster), "a wrong value")
        assert '"false" stays in use' in note
        assert state() == ([], 0)
        assert cluster.status()["agent"]["pid"] == pid


def test_settings_that_are_for_the_node_by_its_labels_come_and_go(cluster: Cluster) -> None:
    config_map(cluster, masquerade_all="false")
    cluster.servers.create(CONFIG_MAPS, EDGE)
    with cluster.agent(*arguments(cluster)):
        assert detail(cluster, "Masquerade All") == "Enabled"
        labels = {"metadata": {"labels": {"pool": "core"}}}
        cluster.servers.change(f"/api/v1/nodes/{NODE}", labels)
        (note,) = wait(lambda: notes(cluster), "a note")
        assert 'masquerade-all: is now "false", was "true"' in note
        cluster.servers.change(
            f"{CONFIG_MAPS}/edge",
            {"metadata": {"annotations": {"kubypass.io/node-selector": "!!"}}},
        )
        (line,) = wait(cluster.problems, "a problem")
        assert line.startswith("ConfigMap kube-system/edge: annotation kubypass.io/node-selector")


def test_an_agent_that_starts_while_the_api_is_away_has_the_settings_of_before(
    cluster: Cluster,
) -> None:
    config_map(cluster, node_port_range="30000,30999")
    words = arguments(cluster)
    with cluster.agent(*words):
        pass
    cluster.servers.kill()
    try:
        with cluster.agent(*words, ready=False):
            wait(lambda: "settings as they were read last" in cluster.said(), "it says so")
            wait((cluster.node.run / "agent.sock").exists, "it answers")
            assert detail(cluster, "NodePort") == "Enabled (Range: 30000-30999)"
            cluster.servers.start()
            cluster.servers.wait_ready()
            wait(cluster.healthy, "it is ready", 60)
    finally:
        if str(PORT) not in cluster.servers.processes:
            cluster.servers.start()
            cluster.servers.wait_ready()


def test_probes_are_answered_while_nothing_is_known_yet(cluster: Cluster) -> None:
    words = arguments(cluster)
    cluster.servers.kill()
    try:
        with cluster.agent(*words, ready=False):
            wait(lambda: "API away" in cluster.said(), "it says why")
            assert cluster.proxy_health("/livez")[0] == 200
            assert cluster.proxy_health("/healthz")[0] == 503
    finally:
        cluster.servers.start()
        cluster.servers.wait_ready()


def test_config_maps_by_name(cluster: Cluster) -> None:
    """RBAC admits two of them, and lets nobody list the others."""
    config_map(cluster, node_port_range="30000,30999", masquerade_all="false")
    unlabelled = json.loads(json.dumps(EDGE))
    del unlabelled["metadata"]["labels"]
    cluster.servers.create(CONFIG_MAPS, unlabelled)
    cluster.allow_config_maps(["kubypass-config", "edge"])
    with cluster.agent(*arguments(cluster), "--node-configs=edge"):
        assert detail(cluster, "NodePort") == "Enabled (Range: 30000-30999)"
        assert detail(cluster, "Masquerade All") == "Enabled"
    cluster.allow_config_maps(["kubypass-config"])
    with cluster.agent(*arguments(cluster), "--node-configs="):
        assert detail(cluster, "Masquerade All") == "Disabled"
    with cluster.agent(*arguments(cluster), "--node-configs=edge", ready=False):
        names = 'resourceNames: ["kubypass-config", "edge"]'
        wait(lambda: names in cluster.said(), "the rule with its names")
        assert "may not list, watch configmaps" in cluster.said()


def test_what_keeps_settings_from_being_read(cluster: Cluster) -> None:
    done = cluster.refused(*arguments(cluster))
    assert done.returncode == 2
    assert f"--config-map {NAME}: there is none; create it" in done.stderr
    config_map(cluster, kube_proxy_replacement="perhaps")
    done = cluster.refused(*arguments(cluster))
    assert done.returncode == 2
    assert "kube-proxy-replacement: 'perhaps'" in done.stderr
    assert f"(ConfigMap {NAME})" in done.stderr
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system"
    cluster.servers.delete(f"{rbac}/rolebindings/kubypass")
    with cluster.agent(*arguments(cluster), ready=False):
        wait(lambda: "may not list, watch configmaps" in cluster.said(), "the verbs are named")
        assert "Role in kube-system" in cluster.said()


def test_servers_that_the_config_map_names_are_used(cluster: Cluster) -> None:
    config_map(
        cluster, **{"k8s-api-server-urls": f"https://192.0.2.1:6443,https://{ADDRESS}:{PORT}"}
    )
    cluster.allow(CLUSTER_RULES)
    with cluster.agent(*arguments(cluster)):
        assert cluster.status()["kubernetes"]["server"] == f"https://{ADDRESS}:{PORT}"
