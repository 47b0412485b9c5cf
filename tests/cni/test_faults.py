# SPDX-License-Identifier: Apache-2.0
"""Nodes without addresses, with too few, with others' configurations, and with what crashes left."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from kubypass.cni.conflist import CONFLIST
from kubypass_lab.box.patience import DEADLINE_S
from tests.cni.runtime import (
    PROGRAM,
    Runtime,
    call_plugin,
    inside,
    kill,
    problems,
    running,
    write_node,
)
from tests.program import KUBYPASS
from tests.waiting import wait


def log(pods: Runtime) -> str:
    return (pods.node.root / "agent.log").read_text()


def test_a_node_without_networks_waits_for_them(pods: Runtime) -> None:
    write_node(pods.node, ())
    config = {"cniVersion": "1.1.0", "name": "kubypass", "socket": str(pods.node.run / "cni.sock")}
    with running(pods):
        assert not (pods.conf / CONFLIST).exists(), "the node is not ready"
        (line,) = problems(pods.node)
        assert line.startswith("Node bench: ")
        assert "--allocate-node-cidrs" in line
        environment = {"CONTAINERID": "pod", "NETNS": pods.sandbox("pod"), "IFNAME": "eth0"}
        status, error = call_plugin(PROGRAM, "ADD", config, **environment)
        assert (status, error["code"]) == (1, 11)
        assert "no spec.podCIDRs" in error["msg"]
        status, error = call_plugin(PROGRAM, "STATUS", config)
        assert (status, error["code"]) == (1, 50)
        write_node(pods.node)
        wait((pods.conf / CONFLIST).exists, "our configuration")
        pods.add("pod")
        assert not problems(pods.node)
        assert pods.call("STATUS") == (0, None)


def test_an_exhausted_pool_says_what_is_used(pods: Runtime) -> None:
    write_node(pods.node, ("10.9.0.0/29",))
    with running(pods):
        for number in range(5):
            pods.add(f"pod{number}")
        pods.sandbox("last")
        code, error = pods.call("ADD", "last")
        assert (code, error["code"]) == (1, 11)
        assert "10.9.0.0/29: 5 of 5 addresses are used" in error["msg"]
        assert "--node-cidr-mask-size" in error["details"]
        assert pods.call("STATUS")[1]["code"] == 50
        wait(lambda: any("5 of 5" in line for line in problems(pods.node)), "a problem")
        pods.delete("pod2")
        pods.add("last")
        assert pods.addresses("last") == ["10.9.0.4"]


def test_leases_of_pods_that_are_gone_are_released_at_the_start(pods: Runtime) -> None:
    with running(pods):
        for name in ("first", "second"):
            pods.add(name)
        kill(pods.node)
    inside(pods.netns("first"), "ip", "link", "delete", "eth0")
    with running(pods):
        assert "leases of pods that are gone are released count=1" in log(pods)
        assert "10.1.2.2, fd01:2::2" in log(pods)
        assert len(list((pods.node.run / "pods").iterdir())) == 1
        assert not problems(pods.node)


def test_the_address_of_an_unreadable_record_is_not_given_again(pods: Runtime) -> None:
    write_node(pods.node, ("10.9.0.0/29",))
    with running(pods):
        pods.add("pod0")
    (record,) = (pods.node.run / "pods").iterdir()
    record.write_text("{")
    (pods.node.run / "cni-last").write_text("also broken")
    with running(pods):
        assert any(record.name in line for line in problems(pods.node))
        for number in range(1, 5):
            pods.add(f"pod{number}")
        given = [pods.addresses(name)[0] for name in pods.results]
        assert sorted(given) == [f"10.9.0.{last}" for last in range(2, 7)]
        pods.delete("pod0")
        assert len(list((pods.node.run / "pods").iterdir())) == 4
        wait(lambda: not problems(pods.node), "no problem is left")


def test_other_networks_than_pods_have_addresses_of(pods: Runtime) -> None:
    write_node(pods.node, ("10.9.0.0/24",))
    with running(pods):
        pods.add("old")
        write_node(pods.node, ("10.8.0.0/24",))
        said = "pods have addresses of others: 10.9.0.2"
        (line,) = wait(lambda: [one for one in problems(pods.node) if said in one], "a problem")
        assert "restart these pods" in line
        pods.add("new")
        assert pods.addresses("new") == ["10.8.0.2"]
        pods.delete("old")
        wait(lambda: not problems(pods.node), "no problem is left")


def test_other_configurations_are_set_aside_and_put_back(pods: Runtime) -> None:
    other = pods.conf / "00-other.conflist"
    other.write_text("{}")
    with running(pods):
        assert sorted(path.name for path in pods.conf.iterdir()) == [
            "00-other.conflist.kubypass_bak",
            CONFLIST,
        ]
        (pods.conf / "01-late.conf").write_text("{}")
        wait((pods.conf / "01-late.conf.kubypass_bak").exists, "the late one is set aside")
        (pods.conf / CONFLIST).unlink()
        wait((pods.conf / CONFLIST).exists, "ours is back")
        pods.add("pod")
    words = cleanup(pods)
    assert f"put {other} back" in words
    assert "1 pods of this node need it to be deleted" in words
    assert sorted(path.name for path in pods.conf.iterdir()) == [
        "00-other.conflist",
        "01-late.conf",
    ]
    with running(pods):
        pods.delete("pod")
    cleanup(pods)
    assert not list(pods.bin.iterdir())
    assert sorted(path.name for path in pods.node.run.iterdir()) == ["pods"]


def cleanup(pods: Runtime) -> str:
    command = ["nsenter", f"--net=/run/netns/{pods.node.namespace}", KUBYPASS, "cleanup"]
    done = subprocess.run(
        [*command, *pods.node.options],
        capture_output=True, text=True, check=True, timeout=2 * DEADLINE_S,
    )  # fmt: skip
    return done.stdout


def test_another_configuration_that_wins_is_a_problem(pods: Runtime) -> None:
    with running(pods, "--cni-exclusive=false"):
        (pods.conf / "10-later.conflist").write_text("{}")
        (pods.conf / "00-other.conflist").write_text("{}")
        (line,) = wait(lambda: problems(pods.node), "a problem")
        assert line.startswith(f"CNI configuration {pods.conf}/00-other.conflist: ")
        assert 'cni-exclusive: "true"' in line
        (pods.conf / "00-other.conflist").unlink()
        wait(lambda: not problems(pods.node), "no problem is left")


def test_a_directory_that_cannot_be_written_is_a_problem(pods: Runtime) -> None:
    pods.conf.rmdir()
    pods.conf.write_text("a file")
    with running(pods, "--check-every=0.2"):
        (line,) = problems(pods.node)
        assert line.startswith(f"CNI configuration {pods.conf}: our network cannot be announced")
        assert "File exists" in line
        pods.conf.unlink()
        wait((pods.conf / CONFLIST).exists, "our configuration")
        wait(lambda: not problems(pods.node), "no problem is left")


def test_what_the_runtime_no_longer_has_is_collected(pods: Runtime) -> None:
    pods.version = "1.1.0"
    with running(pods):
        for name in ("kept", "lost"):
            pods.add(name)
        code, error = pods.call("GC")
        assert (code, error["code"]) == (1, 7)
        assert "nothing is removed" in error["msg"]
        valid: dict[str, Any] = {
            "cni.dev/valid-attachments": [{"containerID": "kept", "ifname": "eth0"}]
        }
        assert pods.call("GC", **valid) == (0, None)
        (record,) = (pods.node.run / "pods").iterdir()
        assert json.loads(record.read_bytes())["name"] == "kept"
        assert "eth0" not in inside(pods.netns("lost"), "ip", "link")


def test_one_directory_without_the_other_is_a_mistake(tmp_path: Path) -> None:
    command = [
        KUBYPASS,
        "agent",
        "--manifests",
        str(tmp_path),
        "--cni-conf-dir",
        str(tmp_path),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=2 * DEADLINE_S
    )
    assert done.returncode == 2
    assert "give both or none" in done.stderr
