# SPDX-License-Identifier: Apache-2.0
"""The guide's whole walk in a box of its own: every step is carried out and checked.

Each step is a function in `walk` or `proof`; this module runs them in order and cleans up, whatever
happens.
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
from kubypass_lab.box import proof, walk
from kubypass_lab.box.box import down
from kubypass_lab.box.checks import Checks
from kubypass_lab.box.paths import BoxPaths
from kubypass_lab.box.process import last_lines


def demo(name: str, kubekey: Path, settings: Path) -> int:
    """Run all steps in the box `name`; returns 0 if every check passed, else 1."""
    return conduct(
        name,
        lambda checks: _walk(checks, name, kubekey, settings),
        logs=lambda: sorted(BoxPaths(name).root.glob("nodes/*/agent.log")),
        take_down=lambda: down(name, lambda _: None),
    )


def conduct(
    name: str,
    walk_on: Callable[[Checks], None],
    *,
    logs: Callable[[], list[Path]],
    take_down: Callable[[], object],
) -> int:
    """Walk, and take down whatever was made, however the walk ends; returns 0 if every check passed, else 1.

    The ends of `logs` are shown if one did not.
    """
    with _alone(name):
        checks = Checks(_say)
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            walk_on(checks)
        except KubypassError as error:
            checks.check("the walk goes on", "no error", error, passed=False)
        except KeyboardInterrupt:
            checks.check("the walk goes on", "no interruption", "interrupted", passed=False)
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
    """Keep a second demo out of the box; an abstract socket needs no cleaning up."""
    with socket.socket(socket.AF_UNIX) as claim:
        try:
            claim.bind(f"\0kubypass-demo-{name}")
        except OSError as error:
            message = f"another demo runs in the box {name}"
            raise KubypassError(message, "wait for it, or give another --name") from error
        yield


def _walk(checks: Checks, name: str, kubekey: Path, settings: Path) -> None:
    down(name, lambda _: None)
    box, before = walk.make_box(checks, name, kubekey, settings)
    walk.configure(checks, box)
    tour = walk.deploy_nginx(checks, box)
    walk.show_status(checks, tour)
    walk.show_services(checks, tour)
    walk.show_no_rules(checks, tour)
    walk.access(checks, tour)
    walk.access_from_outside(checks, tour)
    with proof.traffic(tour) as streams:
        proof.scale_under_load(checks, tour, streams)
        proof.kill_agents(checks, tour, streams)
    proof.clean_up(checks, tour, before)


def _show_logs(logs: list[Path]) -> None:
    for log in logs:
        _say(f"\nlast lines of {log.parent.name}'s {log.stem}:")
        for line in last_lines(log, 8):
            _say(f"    {line}")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    print(line, flush=True, file=sys.stdout)
