# SPDX-License-Identifier: Apache-2.0
"""Other versions of kubypass, built from source: an agent runs one when PYTHONPATH names it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from kubypass.datapath.loader import OBJECTS
from kubypass_lab.bench.node import BareNode

ROOT = Path(__file__).parents[2]
SERVICE_END = """\
\t__u64 table; /* the Maglev tables of its lists */
\t__u32 cells; /* of each table; 0: backends are selected at random */
\t__u32 pad;
"""
OTHER_STRUCTS = {
    "struct flow {": "struct flow {\n\t__u64 colour;",  # a field more
    "struct service {": "struct service {\n\t__u32 pad;",  # others at another offset
    SERVICE_END: "\t__u32 cells;\n\t__u64 table;\n",
    "struct backend {": "struct backend {\n\t__u32 pad;",
}


def other_structs(root: Path) -> Path:
    """Makes this version with other structs in its maps; returns its PYTHONPATH."""
    package = root / "src/kubypass"
    shutil.copytree(ROOT / "src/kubypass", package)
    for name in ("bpf", "Makefile"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, root / name)
    change_structs(root)
    objects = compile_objects(root)
    subprocess.run(
        [sys.executable, "-m", "kubypass.datapath.generate", objects, package],
        env={**os.environ, "PYTHONPATH": str(root / "src")}, check=True,
    )  # fmt: skip
    return root / "src"


def change_structs(root: Path) -> None:
    """Gives the copy of a checkout in `root` other structs."""
    header = root / "bpf/kubypass.h"
    text = header.read_text()
    for old, new in OTHER_STRUCTS.items():
        assert old in text
        text = text.replace(old, new)
    header.write_text(text)


def has_commit(commit: str) -> bool:
    """Tells whether this checkout has the commit; a shallow clone or an unpacked archive may not."""
    asked = ["git", "-C", str(ROOT), "cat-file", "-e", f"{commit}^{{commit}}"]
    return subprocess.run(asked, stderr=subprocess.DEVNULL, check=False).returncode == 0


def earlier_version(root: Path, commit: str) -> Path:
    """The version of a commit; returns its PYTHONPATH."""
    archive = root / "source.tar"
    command = [
        "git",
        "-C",
        str(ROOT),
        "archive",
        "-o",
        str(archive),
        commit,
        "Makefile",
        "bpf",
        "src",
    ]
    subprocess.run(command, check=True)
    shutil.unpack_archive(archive, root)
    compile_objects(root)
    return root / "src"


def compile_objects(root: Path) -> Path:
    """Compiles the programs as the Makefile in `root` does; returns the directory, which its package finds."""
    rules = (root / "Makefile").read_text()
    later = [name for name in ("host_l3", "xdp") if f"/{name}.bpf.o" in rules]
    names = ["abi", *OBJECTS, *later]  # earlier commits have less
    objects = [f"build/bpf/{name}.bpf.o" for name in names]
    command = ["make", "-s", "-C", str(root), "-o", "build/packages", *objects]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return root / "build/bpf"


def identifiers(node: BareNode) -> dict[str, int]:
    """Identifiers of services by frontend."""
    found = json.loads(node.ask("/services")[1])["services"]
    return {row["frontend"]: row["id"] for row in found}
