# SPDX-License-Identifier: Apache-2.0
"""The plugin where no agent answers, and where a runtime breaks the specification."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cni.runtime import PROGRAM, Runtime, call_plugin, running
from tests.waiting import wait

NOWHERE = "/run/kubypass-nowhere"
POD = {"CONTAINERID": "pod", "NETNS": "/nowhere", "IFNAME": "eth0"}


@pytest.mark.parametrize(
    ("command", "code"), [("ADD", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50)]
)
def test_without_an_agent_the_codes_are_those_of_the_specification(
    tmp_path: Path, command: str, code: int
) -> None:
    config = {"cniVersion": "1.1.0", "name": "kubypass", "socket": f"{tmp_path}/cni.sock"}
    status, error = call_plugin(PROGRAM, command, config, **POD)
    assert status == 1
    assert error["code"] == code
    assert error["cniVersion"] == "1.1.0"
    assert f"does not answer on {tmp_path}/cni.sock" in error["msg"]


def test_version_needs_no_agent() -> None:
    status, answer = call_plugin(PROGRAM, "VERSION", {"cniVersion": "1.0.0"})
    assert status == 0
    assert answer == {
        "cniVersion": "1.0.0",
        "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    }


@pytest.mark.parametrize(
    "config", ["", "{", "[]", '"text"', "{}}", '{"a": "b', '{"a": "\\', "{} {}", "nothing"]
)
def test_what_is_no_json_object_is_an_error(config: str) -> None:
    status, error = call_plugin(PROGRAM, "ADD", config, **POD)
    assert (status, error["code"]) == (1, 6)


def test_only_keys_of_the_outermost_object_count(tmp_path: Path) -> None:
    socket = str(tmp_path / "c.sock")
    config = {
        "a": {"socket": "/x"},
        "b": ["socket", "/y"],
        "c": "socket",
        "socket": socket,
        "d": [{}],
    }
    status, error = call_plugin(PROGRAM, "ADD", config, **POD)
    assert (status, error["code"]) == (1, 11)
    assert f"on {socket}:" in error["msg"]


def test_no_command_is_told_to_people() -> None:
    status, error = call_plugin(PROGRAM, "", "{}")
    assert (status, error["code"]) == (1, 4)
    assert "called by container runtimes" in error["msg"]


def test_a_deletion_is_kept_once(tmp_path: Path) -> None:
    config = {"cniVersion": "1.0.0", "name": "kubypass", "socket": f"{tmp_path}/run/cni.sock"}
    for ifname in ("eth0", "eth0", "net1"):
        assert call_plugin(PROGRAM, "DEL", config, **{**POD, "IFNAME": ifname}) == (0, None)
    kept = list((tmp_path / "run/cni-deletes").iterdir())
    assert len(kept) == 2
    assert all(path.read_bytes().startswith(b"kubypass-cni 1\0CNI_") for path in kept)


def test_a_deletion_that_cannot_be_kept_fails(tmp_path: Path) -> None:
    (tmp_path / "cni-deletes").write_text("a file")
    config = {"name": "kubypass", "socket": f"{tmp_path}/cni.sock"}
    status, error = call_plugin(PROGRAM, "DEL", config, **POD)
    assert (status, error["code"]) == (1, 5)


def test_deletions_are_made_up_for_at_the_start(pods: Runtime) -> None:
    with running(pods):
        pods.add("first")
        pods.add("second")
    pods.delete("first")
    pods.delete("never-there")
    assert len(list((pods.node.run / "cni-deletes").iterdir())) == 2
    with running(pods):
        assert not list((pods.node.run / "cni-deletes").iterdir())
        assert len(list((pods.node.run / "pods").iterdir())) == 1
        assert pods.node.status()["pods"] == 1
        assert pods.call("CHECK", "second", prevResult=pods.results["second"]) == (0, None)


def test_an_agent_that_hangs_is_not_waited_for(pods: Runtime) -> None:
    with running(pods):
        pods.add("pod")
        pid = pods.node.status()["agent"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            code, error = pods.call("STATUS", timeoutSeconds="1")
            assert (code, error["code"]) == (1, 50)
            assert pods.call("DEL", "pod", timeoutSeconds="1") == (0, None)
        finally:
            os.kill(pid, signal.SIGCONT)
        left = [pods.node.run / "pods", pods.node.run / "cni-deletes"]
        wait(lambda: not any(any(where.iterdir()) for where in left), "the pod is deleted")
        assert pods.call("STATUS") == (0, None)


def test_clients_that_do_not_end_their_request_hold_nobody_up(pods: Runtime) -> None:
    with running(pods), ExitStack() as opened:
        for _ in range(300):
            client = opened.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(pods.node.run / "cni.sock"))
            client.send(b"kubypass-cni 1")
        pods.add("pod")
        pods.delete("pod")
        assert pods.call("STATUS") == (0, None)


@pytest.mark.parametrize(
    ("changes", "config", "code", "words"),
    [
        ({"CONTAINERID": ""}, {}, 4, "CNI_CONTAINERID is ''"),
        ({"CONTAINERID": "../x"}, {}, 4, "CNI_CONTAINERID is '../x'"),
        ({"IFNAME": "sixteen-letters-"}, {}, 4, "at most 15 bytes"),
        ({"IFNAME": "a/b"}, {}, 4, "CNI_IFNAME is 'a/b'"),
        ({"NETNS": ""}, {}, 4, "CNI_NETNS is ''"),
        ({"NETNS": "/nowhere"}, {}, 4, "expected a network namespace that can be opened"),
        ({}, {"cniVersion": "9.0.0"}, 1, "cniVersion is '9.0.0'"),
        ({}, {"name": 5}, 7, "name is 5"),
        ({}, {"prevResult": {}}, 7, "put it first"),
    ],
    ids=str,
)
def test_a_runtime_that_breaks_the_rules_is_told_which(
    running_pods: Runtime, changes: dict[str, str], config: dict[str, object], code: int, words: str
) -> None:
    place = {"CONTAINERID": "pod", "NETNS": "/proc/self/ns/net", "IFNAME": "eth0", **changes}
    given = running_pods.config(**config)
    status, error = call_plugin(running_pods.bin / "kubypass-cni", "ADD", given, **place)
    assert (status, error["code"]) == (1, code)
    assert words in error["msg"] + error.get("details", "")
    assert not list((running_pods.node.run / "pods").iterdir())


def test_the_node_s_own_namespace_is_left_alone(running_pods: Runtime) -> None:
    """A runtime's mistake must not give the node's own interface away."""
    node = f"/run/netns/{running_pods.node.namespace}"
    place = {"CONTAINERID": "pod", "NETNS": node, "IFNAME": "eth0"}
    status, error = call_plugin(PROGRAM, "ADD", running_pods.config(), **place)
    assert (status, error["code"]) == (1, 11)
    assert "File exists" in error["msg"]
    assert not list((running_pods.node.run / "pods").iterdir())


@pytest.fixture(scope="module")
def running_pods() -> Iterator[Runtime]:
    from tests.cni.runtime import runtime

    with runtime() as made, running(made):
        yield made
