# SPDX-License-Identifier: Apache-2.0
"""Other versions of kubypass, built from source: an agent runs one when PYTHONPATH names it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from kubypass_lab.bench.node import BareNode

ROOT = Path(__file__).parents[2]
OTHER_STRUCTS = {
    "struct flow {": "struct flow {\n\t__u64 colour;",  # a field more
    "struct service {": "struct service {\n\t__u32 pad;",  # others at another place
    "struct backend {": "struct backend {\n\t__u32 pad;",
}


def other_structs(root: Path) -> Path:
    """This version with other structs in its maps; returns its PYTHONPATH."""
    shutil.copytree(ROOT / "bpf", root / "bpf")
    package = root / "src/kubypass"
    shutil.copytree(ROOT / "src/kubypass", package)
    header = root / "bpf/kubypass.h"
    text = header.read_text()
    for old, new in OTHER_STRUCTS.items():
        assert old in text
        text = text.replace(old, new)
    header.write_text(text)
    _compile(root)
    subprocess.run(
        [sys.executable, "-m", "kubypass.datapath.generate", package / "bpf", package],
        env={**os.environ, "PYTHONPATH": str(root / "src")}, check=True,
    )  # fmt: skip
    return root / "src"


def has_commit(commit: str) -> bool:
    """Tells whether this checkout has the commit; a shallow clone or an unpacked archive may not."""
    asked = ["git", "-C", str(ROOT), "cat-file", "-e", f"{commit}^{{commit}}"]
    return subprocess.run(asked, stderr=subprocess.DEVNULL, check=False).returncode == 0


def earlier_version(root: Path, commit: str) -> Path:
    """The version of a commit; returns its PYTHONPATH."""
    archive = root / "source.tar"
    command = ["git", "-C", str(ROOT), "archive", "-o", str(archive), commit, "bpf", "src"]
    subprocess.run(command, check=True)
    shutil.unpack_archive(archive, root)
    _compile(root)
    return root / "src"


def _compile(root: Path) -> None:
    """Puts the objects into the package, where the loader looks first."""
    objects = root / "src/kubypass/bpf"
    objects.mkdir()
    flags = ["-O2", "-g", "-target", "bpf", f"-I/usr/include/{os.uname().machine}-linux-gnu"]
    flags += [f"-I{root}/bpf", f"-I{root}/bpf/skb"]
    for source in (root / "bpf").glob("*.bpf.c"):
        target = objects / source.with_suffix(".o").name
        subprocess.run(["clang-19", *flags, "-c", source, "-o", target], check=True)


def identifiers(node: BareNode) -> dict[str, int]:
    """Identifiers of services by frontend."""
    found = json.loads(node.ask("/services")[1])["services"]
    return {row["frontend"]: row["id"] for row in found}
