# SPDX-License-Identifier: Apache-2.0
"""The guide's scenario in a box: every step is carried out and checked.

Each step is a function in `steps_basic` or `steps_resilience`. This module runs them in order and
always takes the box down.
"""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from kubypass.errors import KubypassError
from kubypass_lab.box import steps_basic, steps_outside, steps_resilience
from kubypass_lab.box.box import down
from kubypass_lab.box.checks import Checks
from kubypass_lab.box.paths import BoxPaths
from kubypass_lab.box.process import last_lines


def demo(name: str, kubekey: Path, settings: Path) -> int:
    """Run all steps in the box `name`; returns 0 if every check passed, else 1."""
    return run_demo(
        name,
        lambda checks: _run_steps(checks, name, kubekey, settings),
        logs=lambda: sorted(BoxPaths(name).root.glob("nodes/*/agent.log")),
        take_down=lambda: down(name, lambda _: None),
    )


def run_demo(
    name: str,
    run_steps: Callable[[Checks], None],
    *,
    logs: Callable[[], list[Path]],
    take_down: Callable[[], object],
) -> int:
    """Run the steps, and always take down what they made. Returns 0 if every check passed, else 1.

    The last lines of `logs` are shown if a check failed.
    """
    with _alone(name):
        checks = Checks(_say)
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            run_steps(checks)
        except KubypassError as error:
            checks.check("the demo goes on", "no error", error, passed=False)
        except KeyboardInterrupt:
            checks.check("the demo goes on", "no interruption", "interrupted", passed=False)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if checks.failed:
                _show_logs(logs())
            take_down()
        _say("")
        _say(checks.summary())
        return 1 if checks.failed else 0


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Keep a second demo out of the box. An abstract socket is the lock: it ends with the process."""
    with socket.socket(socket.AF_UNIX) as claim:
        try:
            claim.bind(f"\0kubypass-demo-{name}")
        except OSError as error:
            message = f"another demo runs in the box {name}"
            raise KubypassError(message, "wait for it, or give another --name") from error
        yield


def _run_steps(checks: Checks, name: str, kubekey: Path, settings: Path) -> None:
    down(name, lambda _: None)
    box, before = steps_basic.make_box(checks, name, kubekey, settings)
    steps_basic.configure(checks, box)
    scenario = steps_basic.deploy_nginx(checks, box)
    steps_basic.show_status(checks, scenario)
    steps_basic.show_services(checks, scenario)
    steps_basic.show_no_rules(checks, scenario)
    steps_basic.access(checks, scenario)
    steps_basic.access_from_outside(checks, scenario)
    steps_outside.reach_outside(checks, scenario)
    with steps_resilience.traffic(scenario) as streams:
        steps_resilience.scale_under_load(checks, scenario, streams)
        steps_resilience.kill_agents(checks, scenario, streams)
    steps_resilience.clean_up(checks, scenario, before)


def _show_logs(logs: list[Path]) -> None:
    for log in logs:
        _say(f"\nlast lines of {log.parent.name}'s {log.stem}:")
        for line in last_lines(log, 8):
            _say(f"    {line}")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    print(line, flush=True, file=sys.stdout)
