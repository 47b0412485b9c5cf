# SPDX-License-Identifier: Apache-2.0
"""Every command ends without a traceback, whoever runs it and wherever its streams lead: one line says what is wrong.

The rows are the parser's commands, so that a new one is tried as well.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kubypass.cli import COMMANDS, installed_lab_commands, whole_parser
from kubypass.cli.command_tree import Command, command_tree
from kubypass_lab.box.patience import DEADLINE_S
from tests.program import KUBYPASS

_ARGUMENTS = {
    "kubypass agent": ["--manifests", "none", "--node", "n"],
    "kubypass trace": [
        *("--manifests", "objects.yaml", "--from", "192.0.2.9", "--to", "10.0.0.1:80/tcp"),
    ],
    "kubypass config check": ["settings.yaml"],
    "kubypass install": ["--dry-run", "--kubeconfig", "none"],
    "kubypass uninstall": ["--dry-run", "--kubeconfig", "none"],
    "kubypass connectivity test": ["--kubeconfig", "none"],
    "kubypass completion": ["bash"],
    "kubypass box exec": ["node1", "true"],
    "kubypass box apply": ["-f", "objects.yaml"],
    "kubypass box delete": ["pod/none"],
    "kubypass box scale": ["deployment/none", "--replicas", "1"],
    "kubypass box label": ["node1", "a=b"],
    "kubypass box up": ["--file", "none"],
    "kubypass box demo": ["--config", "none"],
    "kubypass box demo-kubernetes": ["--config", "none"],
}
"""What a command needs to do something that changes nothing on this machine."""
_ALONE = ["unshare", "--net"] if os.geteuid() == 0 else []
"""Nothing that a command does may concern this machine's network."""
_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
_TAKES_NO_NAME = {"kubypass box demo", "kubypass box demo-kubernetes"}


def _leaves() -> list[Command]:
    tree = command_tree(whole_parser([*COMMANDS, *installed_lab_commands()]))
    return [command for command in tree.walk() if not command.commands]


def _is_tried(command: Command) -> bool:
    """Measurements take minutes, and demos make boxes: only their help is tried."""
    return "bench" not in command.words and command.name not in _TAKES_NO_NAME


LEAVES = [command.name for command in _leaves() if _is_tried(command)]
HELP = [[*command.words, "--help"] for command in _leaves()]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory that anybody may use, with what commands read."""
    (tmp_path / "objects.yaml").write_text(
        "apiVersion: v1\nkind: Node\nmetadata: {name: n}\n"
        "status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}\n---\n"
        "apiVersion: v1\nkind: Service\nmetadata: {name: bücher, namespace: größe}\n"
        "spec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}\n"
    )
    (tmp_path / "settings.yaml").write_text('unknown-schlüssel: "größe"\n', encoding="utf-8")
    for path in (tmp_path, *tmp_path.parents[:2], *tmp_path.iterdir()):
        path.chmod(0o777)
    return tmp_path


def words(name: str, directory: Path) -> list[str]:
    """A command line that ends by itself, of a command by its name."""
    given = list(_ARGUMENTS.get(name, ()))
    if name.startswith("kubypass box") and name != "kubypass box list":
        given = ["--name", "nosuchbox", *given]
    runs = {"kubypass agent", "kubypass status", "kubypass service list", "kubypass metrics"}
    runs |= {"kubypass trace", "kubypass cleanup"}
    if name in runs:
        given += ["--run", str(directory / "run")]
        given += ["--bpffs", str(directory / "bpf")] if name != "kubypass metrics" else []
    return [*_ALONE, KUBYPASS, *name.split()[1:], *given]


def environment(**changes: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("KUBYPASS")}
    return {**kept, "KUBECONFIG": "none", **changes}


def _without_home() -> dict[str, str]:
    found = environment()
    found.pop("HOME", None)
    return found


def _close(number: int) -> Callable[[], None]:
    return lambda: os.close(number)


def run(
    command: list[str], directory: Path, before: Callable[[], None] | None = None, **options: object
) -> tuple[int, str]:
    """The exit code, and what it wrote to standard error (and to standard output, where nobody takes that)."""
    given = {
        "env": environment(),
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        **options,
    }
    done = subprocess.run(  # type: ignore[call-overload]  # options by name
        command,
        stderr=subprocess.PIPE,
        cwd=directory,
        timeout=DEADLINE_S,
        check=False,
        preexec_fn=before,
        **given,
    )
    return done.returncode, (done.stderr + (done.stdout or b"")).decode(errors="replace")


def check(found: tuple[int, str], *also: int) -> None:
    code, said = found
    assert "Traceback" not in said, said
    assert "Exception ignored" not in said, said
    assert "Fatal Python error" not in said, said
    assert code in {0, 1, 2, *also}, (code, said)


@pytest.mark.parametrize("name", LEAVES)
def test_as_a_user_who_is_not_root(directory: Path, name: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    if subprocess.run([*_NOBODY, KUBYPASS, "version"], capture_output=True, check=False).returncode:
        pytest.skip("others may not read the virtual environment")
    given = words(name, directory)[len(_ALONE) :]
    check(run([*_ALONE, *_NOBODY, *given], directory))


@pytest.mark.parametrize("name", LEAVES)
def test_where_nothing_can_be_written(directory: Path, name: str) -> None:
    with Path("/dev/full").open("wb") as full:
        check(run(words(name, directory), directory, stdout=full))


@pytest.mark.parametrize("name", LEAVES)
@pytest.mark.parametrize("closed", [0, 1, 2])
def test_with_a_closed_stream(directory: Path, name: str, closed: int) -> None:
    check(run(words(name, directory), directory, _close(closed)))


@pytest.mark.parametrize("name", LEAVES)
@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_in_an_ascii_locale(directory: Path, name: str, locale: str) -> None:
    ascii_only = environment(LC_ALL=locale, PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    check(run(words(name, directory), directory, env=ascii_only))


@pytest.mark.parametrize("name", LEAVES)
def test_without_a_home(directory: Path, name: str) -> None:
    check(run(words(name, directory), directory, env=_without_home()))


@pytest.mark.parametrize("name", LEAVES)
def test_for_a_reader_that_is_gone(directory: Path, name: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        check(run(words(name, directory), directory, stdout=writing), 128 + signal.SIGPIPE)
    finally:
        os.close(writing)


@pytest.mark.parametrize("name", LEAVES)
@pytest.mark.parametrize("after_s", [0.02, 0.2])
def test_interrupted(directory: Path, name: str, after_s: float) -> None:
    script = "import sys, kubypass.cli; print('up', flush=True); sys.exit(kubypass.cli.main())"
    given = words(name, directory)
    at = given.index(KUBYPASS)
    with subprocess.Popen(
        [*given[:at], sys.executable, "-c", script, *given[at + 1 :]],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=directory, env=environment(),
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        try:
            process.wait(after_s)  # the moment is what is tried
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=DEADLINE_S)
        check((process.returncode, said.decode()), 130, -signal.SIGINT)


@pytest.mark.parametrize("command", HELP, ids=" ".join)
def test_help_in_an_ascii_locale_and_on_a_full_disk(command: list[str], directory: Path) -> None:
    ascii_only = environment(LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    check(run([KUBYPASS, *command[1:]], directory, env=ascii_only))
    with Path("/dev/full").open("wb") as full:
        check(run([KUBYPASS, *command[1:]], directory, stdout=full))
