# SPDX-License-Identifier: Apache-2.0
"""Problems are told of by kind: one line for many, few lines a minute, and a line when they end."""

import pytest

from kubypass.agent.report.problem_groups import group_problems
from kubypass.agent.report.problem_log import ProblemLog
from kubypass.model.address import parse_address
from kubypass.model.problem import Problem
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import ServiceFlag
from kubypass.plan.conflicts import Rank, settle_all
from kubypass.plan.items import Item, ItemKey, PlannedFrontend, ServicePlan


class Log:
    """A ProblemLog with a clock of its own, and its lines."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.now = 0.0
        self._capsys = capsys
        self._log = ProblemLog(lambda: self.now)

    def look(self, *problems: Problem) -> list[str]:
        """The lines that a look logs, without their times."""
        self._log.look(group_problems(problems))
        said = self._capsys.readouterr().err.splitlines()
        return [line.partition(" ")[2] for line in said]


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Log:
    return Log(capsys)


def taken(number: int, owner: str = "web") -> Problem:
    message = f"wants 192.0.2.1:{number}/TCP, which is service default/{owner}'s; give it another"
    return Problem(f"Service default/s{number}", message)


OTHER = Problem("Setting mtu", "is larger than that of eth0")


def test_564_services_are_one_line_and_its_end_another(log: Log) -> None:
    many = [taken(number) for number in range(564)]
    assert log.look(*many) == [
        (
            'WARNING problem subject="Service default/s0, Service default/s1, Service default/s10, …" '
            f'count=564 message="{many[0].message}"'
        )
    ]
    log.now += 1
    assert log.look(*many) == []
    log.now += 1
    (line,) = log.look()
    assert line.startswith('INFO problem ended subject="Service default/s0, ')
    assert "count=564" in line


def test_a_single_problem_is_told_as_it_is(log: Log) -> None:
    assert log.look(OTHER) == [
        'WARNING problem subject="Setting mtu" message="is larger than that of eth0"'
    ]
    assert log.look() == [
        'INFO problem ended subject="Setting mtu" count=1 message="is larger than that of eth0"'
    ]


def test_kinds_are_told_apart_by_their_words(log: Log) -> None:
    assert len(log.look(taken(1), OTHER, taken(2))) == 2


def test_numbers_in_a_message_do_not_make_it_new(log: Log) -> None:
    for seconds in range(50):
        message = f"no free source port: {seconds} times, last {seconds % 7} s ago"
        assert len(log.look(Problem("SNAT", message))) == int(seconds == 0)
        log.now += 1


def test_a_number_that_grows_is_told_once_a_minute(log: Log) -> None:
    lines = []
    for count in range(1, 182):
        lines += log.look(*(taken(number) for number in range(count)))
        log.now += 1
    assert [line.partition(", …")[2].partition(" message")[0] for line in lines] == [
        "",
        '" count=61 was=1',
        '" count=121 was=61',
        '" count=181 was=121',
    ]


def test_a_problem_that_comes_and_goes_is_told_four_times_a_minute_and_its_end_at_last(
    log: Log,
) -> None:
    lines: list[str] = []
    for second in range(60):
        lines += log.look(*([OTHER] if second % 2 == 0 else []))
        log.now += 1
    assert len(lines) == 4
    for _ in range(61):
        lines += log.look()
        log.now += 1
    assert [line.split(" subject")[0] for line in lines] == [
        "WARNING problem",
        "INFO problem ended",
    ] * (len(lines) // 2)


def test_many_kinds_at_once_are_thirty_lines_a_minute_and_the_rest_later(log: Log) -> None:
    words = [f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh"]
    many = [Problem(f"Setting {word}", f"is {word}") for word in words]
    first = log.look(*many)
    assert len(first) == 31
    assert first[-1] == 'WARNING more kinds of problems see="kubypass status"'
    assert log.look(*many) == []
    log.now += 60
    assert len(log.look(*many)) == 31
    log.now += 60
    assert len(log.look(*many)) == 4


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_problems_of_planning_are_one_kind(address: str) -> None:
    found = parse_address(address)
    frontend = PlannedFrontend(found, 80, Protocol.TCP, int(ServiceFlag.EXTERNAL_IP))
    plans = []
    for number in range(20):
        key = ("default", f"s{number:02}")
        item = Item(ItemKey(*key, "", Protocol.TCP, 4), (frontend,), ())
        plans.append((key, Rank(), ServicePlan((item,))))
    problems = [problem for plan in settle_all(plans).values() for problem in plan.problems]
    (group,) = group_problems(problems).values()
    assert (group.kind, group.count) == ("Service", 19)
