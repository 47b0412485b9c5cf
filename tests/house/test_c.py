# SPDX-License-Identifier: Apache-2.0
"""The rules of `bpf/`, and the format of all C."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.house.sources import C_SOURCES, ROOT, make_variable, name_of

OTHER_C = [
    *sorted((ROOT / "cni").glob("*.c")),
    *sorted((ROOT / "tests").rglob("*.[ch]")),
    *sorted((ROOT / "lab/src").rglob("*.c")),
]
COLUMNS = 120
HEADERS = [path for path in C_SOURCES if path.suffix == ".h"]
CONTEXT_FOLDERS = (ROOT / "bpf/skb", ROOT / "bpf/xdp")
CONTEXT_WORDS = re.compile(r"\bctx->|\bbpf_skb_|\bTC_ACT_|\bXDP_(?:PASS|DROP|TX|REDIRECT)\b")
HOOK_ORDER = re.compile(r"\bhook\s*[<>]=?|[<>]=?\s*HOOK_")
CONDITIONAL = re.compile(r"^\s*#\s*(?:if|ifdef|ifndef|elif|else)\b", re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def code_of(path: Path) -> str:
    """A file without its comments, line by line as it was."""
    return COMMENT.sub(lambda found: "\n" * found[0].count("\n"), path.read_text())


def lines_with(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    """Where the code of these files has something."""
    return [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(code_of(path).splitlines(), 1)
        if pattern.search(line)
    ]


def compile_bpf(source: Path, context: str) -> str:
    """What the compiler says, with the flags of the Makefile and one kind of context."""
    flags = [*make_variable("BPF_CFLAGS"), "-Ibpf", f"-Ibpf/{context}", "-Wno-unused-function"]
    command = ["clang-19", *flags, "-c", str(source), "-o", "/dev/null"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stderr


def unformatted(paths: list[Path]) -> list[str]:
    """What clang-format would change, and lines that are too long, comments too (which it leaves alone)."""
    command = ["clang-format-19", "--dry-run", "-Werror", f"--style=file:{ROOT}/bpf/.clang-format"]
    done = subprocess.run([*command, *paths], capture_output=True, text=True, check=False)
    return [line for line in done.stderr.splitlines() if "error:" in line] + [
        f"{name_of(path)}:{number}: over {COLUMNS} columns"
        for path in paths
        for number, line in enumerate(path.read_text().expandtabs(8).splitlines(), 1)
        if len(line) > COLUMNS
    ]


def test_bpf_is_formatted() -> None:
    assert not unformatted(C_SOURCES), "run make format"


def test_other_c_is_formatted() -> None:
    assert not unformatted(OTHER_C), "run make format"


def test_nothing_is_compiled_conditionally() -> None:
    assert not [name_of(path) for path in C_SOURCES if CONDITIONAL.search(code_of(path))]
    assert not [name_of(path) for path in HEADERS if "\n#pragma once\n" not in path.read_text()]


def test_each_header_compiles_alone_with_either_context(tmp_path: Path) -> None:
    source, wrong = tmp_path / "alone.bpf.c", {}
    for header in HEADERS:
        source.write_text(f'#include "{header}"\n')
        for context in CONTEXT_FOLDERS:
            if header.parent in (context, ROOT / "bpf"):
                wrong[name_of(header), context.name] = compile_bpf(source, context.name)
    assert len(wrong) > len(HEADERS)
    assert not {names: said for names, said in wrong.items() if said}


def test_every_hole_in_a_struct_has_a_name() -> None:
    assert {"-Wpadded", "-Werror"} <= set(make_variable("BPF_CFLAGS"))


def test_hooks_have_no_order() -> None:
    assert HOOK_ORDER.search("if (hook <= HOOK_FROM_UPLINK)")
    assert not lines_with(HOOK_ORDER, C_SOURCES), "ask for what a hook is: is_ingress, ..."


def test_only_their_own_folders_know_contexts() -> None:
    others = [path for path in C_SOURCES if path.parent not in CONTEXT_FOLDERS]
    assert not lines_with(CONTEXT_WORDS, others)
