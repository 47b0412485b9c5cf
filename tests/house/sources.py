# SPDX-License-Identifier: Apache-2.0
"""The files that the rules of the house are about."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src/kubypass"
LAB = ROOT / "lab/src/kubypass_lab"
PRODUCT_MODULES = sorted(SOURCE.rglob("*.py"))
LAB_MODULES = sorted(LAB.rglob("*.py"))
MODULES = [*PRODUCT_MODULES, *LAB_MODULES]
GENERATED = {
    SOURCE / "datapath/layout.py",
    SOURCE / "model/verdict.py",
    SOURCE / "model/constants.py",
}
C_SOURCES = sorted((ROOT / "bpf").rglob("*.[ch]"))
TEST_FILES = sorted(
    path
    for pattern in ("*.py", "*.[ch]")
    for path in (ROOT / "tests").rglob(pattern)
    if ROOT / "tests/kubernetes/programs" not in path.parents
)
TOOLS = Path(sys.executable).parent


def name_of(path: Path) -> str:
    """A file as it is called from the root of the repository."""
    return str(path.relative_to(ROOT))


def make_variable(name: str) -> list[str]:
    """The words of a variable of the Makefile."""
    printed = subprocess.run(
        ["make", "-s", "--no-print-directory", "--eval", f"print:; @echo $({name})", "print"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    return printed.stdout.split()
