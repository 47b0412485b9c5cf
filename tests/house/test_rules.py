# SPDX-License-Identifier: Apache-2.0
"""The rules of the house: who imports whom, how large things get, what is generated, what is dead."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kubypass.datapath.generate import constants_source, layout_source, verdict_source
from kubypass.kernel.btf import Btf

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src/kubypass"
LAB = ROOT / "lab/src/kubypass_lab"
PRODUCT_MODULES = sorted(SOURCE.rglob("*.py"))
LAB_MODULES = sorted(LAB.rglob("*.py"))
MODULES = [*PRODUCT_MODULES, *LAB_MODULES]
GENERATED = {SOURCE / "datapath/layout.py", SOURCE / "model/verdict.py"}
TOOLS = Path(sys.executable).parent

MAY_IMPORT = {
    "model": set(),
    "settings": {"model"},
    "kernel": set(),
    "plan": {"model", "settings"},
    "node": {"model", "settings", "kernel"},
    "kube": {"model"},
    "api": {"model"},
    "install": {"model", "settings", "kube"},
    "connectivity": {"model", "kube"},
    "datapath": {"model", "settings", "plan", "kernel"},
    "trace": {"model", "settings", "plan", "kernel", "datapath", "node", "kube", "api"},
    "cni": {"model", "kernel"},
    "agent": {"model", "settings", "plan", "kernel", "datapath", "node", "kube", "api", "cni"},
    "cli": {
        "model",
        "settings",
        "datapath",
        "kernel",
        "node",
        "kube",
        "agent",
        "api",
        "plan",
        "trace",
        "install",
        "connectivity",
    },
}
LAB_MAY_IMPORT = {
    "box": {"model", "kernel", "kube", "api"},
    "bench": {"model", "kernel", "kube", "box"},
    "cli": {"cli", "box", "bench"},
}
"""The rooms of the lab: rooms of kubypass and of the lab that each may import."""


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def _rooms(path: Path, package: str) -> set[str]:
    return {name.split(".")[1] for name in _imports(path) if name.startswith(f"{package}.")}


@pytest.mark.parametrize("path", PRODUCT_MODULES, ids=_name)
def test_imports_only_go_down(path: Path) -> None:
    assert not any(name.startswith("kubypass_lab") for name in _imports(path))
    room = path.relative_to(SOURCE).parts[0]
    if room not in MAY_IMPORT:
        return
    assert _rooms(path, "kubypass") & MAY_IMPORT.keys() <= MAY_IMPORT[room] | {room}


@pytest.mark.parametrize("path", LAB_MODULES, ids=_name)
def test_imports_of_the_lab_only_go_down(path: Path) -> None:
    room = path.relative_to(LAB).parts[0]
    if room not in LAB_MAY_IMPORT:
        return
    rooms = _rooms(path, "kubypass") & MAY_IMPORT.keys()
    rooms |= _rooms(path, "kubypass_lab") & LAB_MAY_IMPORT.keys()
    assert rooms <= LAB_MAY_IMPORT[room] | {room}


@pytest.mark.parametrize("path", [p for p in MODULES if p not in GENERATED], ids=_name)
def test_modules_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 50, f"{node.name} has over 50 lines"


@pytest.mark.parametrize("path", sorted((ROOT / "bpf").glob("*.[ch]")), ids=_name)
def test_bpf_sources_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for body in re.findall(r"^\{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        assert body.count("\n") <= 80


def test_link_local_addresses_are_asked_for_by_name() -> None:
    old = re.compile(r'b"[\\]xfe[\\]x80')
    assert old.search(r'address[:2] != b"\xfe\x80"')
    assert not [path for path in MODULES if old.search(path.read_text())], "use is_ipv6_link_local"


def test_the_program_on_the_host_stays_small() -> None:
    assert len((ROOT / "cni/kubypass-cni.c").read_text().splitlines()) <= 300


def test_every_source_names_its_licence() -> None:
    for path in [*MODULES, *(ROOT / "tests").rglob("*.py")]:
        assert path.read_text().startswith("# SPDX-License-Identifier: Apache-2.0\n"), path
    for path in (ROOT / "cni").glob("*.c"):
        assert path.read_text().startswith("// SPDX-License-Identifier: Apache-2.0\n"), path
    for path in (ROOT / "bpf").glob("*.[ch]"):
        assert "SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)" in path.read_text(), path


@pytest.mark.parametrize(
    ("generate", "path"),
    [
        (layout_source, "datapath/layout.py"),
        (verdict_source, "model/verdict.py"),
        (constants_source, "model/constants.py"),
    ],
)
def test_generated_sources_are_fresh(generate: Callable[..., object], path: str) -> None:
    made = subprocess.run(
        [TOOLS / "ruff", "format", "-"],
        input=generate(Btf.of_object(ROOT / "build/bpf/abi.bpf.o")),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    assert made == (SOURCE / path).read_text(), "run make layout"


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "src", "lab", "tests", "scripts"],
        ["ruff", "format", "--check", "src", "lab", "tests", "scripts"],
        ["mypy"],
        [
            "codespell",
            "src",
            "lab",
            "bpf",
            "docs",
            "README.md",
            "ARCHITECTURE.md",
            "CONTRIBUTING.md",
        ],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_linters_agree(command: list[str]) -> None:
    result = subprocess.run(
        [TOOLS / command[0], *command[1:]], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]


def test_no_public_name_is_dead() -> None:
    texts = {
        path: path.read_text()
        for folder in ("src", "lab", "tests", "scripts")
        for path in (ROOT / folder).rglob("*.py")
        if path not in GENERATED
    }
    words = {path: set(re.findall(r"\w+", text)) for path, text in texts.items()}
    dead = []
    for path in MODULES:
        if path in GENERATED:
            continue
        for node in ast.parse(texts[path]).body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            elsewhere = any(node.name in words[other] for other in texts if other != path)
            inside = len(re.findall(rf"\b{node.name}\b", texts[path])) > 1
            if not elsewhere and not inside:
                dead.append(f"{_name(path)}: {node.name}")
    assert not dead
