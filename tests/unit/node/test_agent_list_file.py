# SPDX-License-Identifier: Apache-2.0
"""ip-masq-agent's configuration: what may stand in it, and what becomes of one that is broken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kubypass.model.agent_list import AgentList
from kubypass.model.cidr import parse_cidr
from kubypass.node.agent_list_file import AgentListFile, parse_agent_list

TEN = parse_cidr("10.0.0.0/8")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b"", AgentList()),
        (b"# nothing\n", AgentList()),
        (b"nonMasqueradeCIDRs:\n- 10.0.0.0/8\n", AgentList((TEN,))),
        (b'{"nonMasqueradeCIDRs": ["10.1.2.3/8"], "resyncInterval": "60s"}', AgentList((TEN,))),
        (b"nonMasqueradeCIDRs:\n", AgentList(())),
        (b"masqLinkLocal: true", AgentList((), frozenset({4}))),
        (
            b"nonMasqueradeCIDRs: [fd00::/8]\nmasqLinkLocal: false\nmasqLinkLocalIPv6: true",
            AgentList((parse_cidr("fd00::/8"),), frozenset({6})),
        ),
    ],
)
def test_what_it_says(text: bytes, wanted: AgentList) -> None:
    assert parse_agent_list(text) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"nonMasqueradeCIDRs: [10.0.0.0/33]", "nonMasqueradeCIDRs"),
        (b"nonMasqueradeCIDRs: 10.0.0.0/8", "expected a list"),
        (b"nonMasqueradeCidrs: []", "unknown key nonMasqueradeCidrs"),
        (b"masqLinkLocal: maybe", "masqLinkLocal: expected true or false"),
        (b"- 10.0.0.0/8", "found no keys"),
        (b"a: [", "it is no YAML"),
        (b"#" * 2_000_000, "longer than"),
        (b"\xff\xfe\x00", "it is no YAML"),
    ],
)
def test_what_is_wrong(text: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_agent_list(text)


def test_it_is_read_again_and_a_broken_one_leaves_the_last(tmp_path: Path) -> None:
    path = tmp_path / "ip-masq-agent"
    followed = AgentListFile(path)
    assert not followed.look()
    assert followed.content == AgentList()
    path.write_text("nonMasqueradeCIDRs: [10.0.0.0/8]")
    assert followed.look()
    assert not followed.look()
    path.write_text("nonMasqueradeCIDRs: [10.0.0.0/8")
    assert not followed.look()
    (problem,) = followed.problems
    assert "stays in use" in problem.message
    assert followed.content == AgentList((TEN,))
    path.write_text("nonMasqueradeCIDRs: [10.0.0.0/8, 192.0.2.0/24]")
    assert followed.look()
    assert not followed.problems
    path.unlink()
    assert followed.look()
    assert followed.content == AgentList()


def test_a_directory_in_its_place_is_a_problem(tmp_path: Path) -> None:
    followed = AgentListFile(tmp_path)
    assert not followed.look()
    assert followed.problems


def test_a_pipe_in_its_place_is_a_problem(tmp_path: Path) -> None:
    """Nobody writes into it: a read would wait for ever."""
    os.mkfifo(tmp_path / "ip-masq-agent")
    followed = AgentListFile(tmp_path / "ip-masq-agent")
    assert not followed.look()
    assert "not a regular file" in followed.problems[0].message
