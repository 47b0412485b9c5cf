# SPDX-License-Identifier: Apache-2.0
"""Files that are replaced in one step."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubypass.kernel.files import UNFINISHED, write_file


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b"old")
    (tmp_path / f".state.json{UNFINISHED}").write_bytes(b"of a writer that was killed")
    with path.open("rb") as reader:
        write_file(path, b"new", mode=0o755, durable=durable)
        assert reader.read() == b"old", "who reads goes on reading the old one"
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o755
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]


def test_without_its_directory_it_fails(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "absent/file", b"", durable=False)
