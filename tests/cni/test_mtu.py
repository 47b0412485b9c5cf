# SPDX-License-Identifier: Apache-2.0
"""Pods' MTU is the uplink's, when they are made and when that changes."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path

from tests.cni.exchange import exchange, listening
from tests.cni.runtime import Runtime, inside, problems, running
from tests.waiting import wait


def have_mtu(pods: Runtime, name: str, mtu: int) -> bool:
    return mtus(pods, name) == (mtu,) * 4


def mtus(pods: Runtime, name: str) -> tuple[int, ...]:
    """The MTUs of the node's end, the pod's end, and the pod's default routes."""
    node_end = pods.results[name]["interfaces"][0]["name"]
    here = json.loads(
        inside(f"/run/netns/{pods.node.namespace}", "ip", "-j", "link", "show", node_end)
    )
    there = json.loads(inside(pods.netns(name), "ip", "-j", "link", "show", "eth0"))
    routes = [
        route
        for version in ("-4", "-6")
        for route in json.loads(
            inside(pods.netns(name), "ip", "-j", version, "route", "show", "default")
        )
    ]
    return here[0]["mtu"], there[0]["mtu"], *(route["metrics"][0]["mtu"] for route in routes)


def set_uplink(pods: Runtime, mtu: int) -> None:
    for name in ("far", "eth0"):
        command = ["ip", "-n", pods.node.namespace, "link", "set", name, "mtu", str(mtu)]
        subprocess.run(command, check=True)


def test_pods_follow_their_node(pods: Runtime) -> None:
    set_uplink(pods, 9000)
    pods.version = "1.1.0"
    with running(pods):
        result = pods.add("pod")
        assert mtus(pods, "pod") == (9000,) * 4
        assert [one["mtu"] for one in result["interfaces"]] == [9000, 9000]
        for mtu in (1400, 1500, 9000):
            set_uplink(pods, mtu)
            wait(partial(have_mtu, pods, "pod", mtu), f"pods have {mtu}")
        assert pods.call("CHECK", "pod", prevResult=result) == (0, None)
        assert not problems(pods.node)


def test_connections_live_through_a_change(pods: Runtime) -> None:
    set_uplink(pods, 9000)
    with running(pods):
        pods.add("first")
        pods.add("second")
        for mtu in (1400, 9000):
            with listening(pods.netns("second"), pods.addresses("second")[0], 8080) as server:
                set_uplink(pods, mtu)
                exchange(pods.netns("first"), server, (pods.addresses("second")[0], 8080))
            wait(partial(have_mtu, pods, "first", mtu), f"pods have {mtu}")


def test_the_setting_counts_for_more(pods: Runtime) -> None:
    with running(pods):
        pods.add("before")
    with running(pods, "--mtu=1450"):
        pods.add("pod")
        assert mtus(pods, "pod") == mtus(pods, "before") == (1450,) * 4
        set_uplink(pods, 1420)
        (line,) = wait(lambda: problems(pods.node), "a problem")
        assert line.startswith("Setting mtu: 1450 is more than eth0 takes (1420)")
        assert mtus(pods, "pod") == (1450,) * 4


def test_ipv6_stays_below_its_least_mtu(pods: Runtime) -> None:
    with running(pods, "--mtu=1000"):
        pods.add("pod")
        assert mtus(pods, "pod") == (1280, 1280, 1000, 1280)


def test_a_pod_that_cannot_be_changed_is_told(pods: Runtime) -> None:
    with running(pods):
        pods.add("pod")
        name = Path(pods.netns("pod"))
        moved = name.with_name(f"{name.name}-moved")
        moved.touch()
        subprocess.run(["mount", "--bind", name, moved], check=True)
        subprocess.run(["ip", "netns", "delete", name.name], check=True)
        try:
            set_uplink(pods, 1400)
            (line,) = wait(lambda: problems(pods.node), "a problem")
            assert line.startswith("Pod default/pod: keeps MTU 1500, the node has 1400")
            assert line.endswith("restart the pod")
        finally:
            subprocess.run(["ip", "netns", "delete", moved.name], check=True)


def test_nothing_is_written_where_nothing_changed(pods: Runtime) -> None:
    with running(pods, "--check-every=0.1"):
        pods.add("pod")
        pods.add("other")
    text = (pods.node.root / "agent.log").read_text()
    assert "repaired" not in text
    assert "MTU of pods" not in text
