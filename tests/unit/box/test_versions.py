# SPDX-License-Identifier: Apache-2.0
"""Which Kubernetes a box runs: what --version takes, and the modules that pin it."""

from __future__ import annotations

import re

import pytest

from kubypass.errors import ConfigError
from kubypass_lab.box.kubernetes.paths import ClusterPaths
from kubypass_lab.box.kubernetes.programs import (
    GO_NEEDED,
    VERSION,
    VERSIONS,
    minor_of,
    parse_version,
    programs_directory,
)
from kubypass_lab.checkout import PROGRAM_MODULES


@pytest.mark.parametrize(("short", "pinned"), VERSIONS.items())
def test_each_version_has_a_module_that_pins_it(short: str, pinned: str) -> None:
    text = (PROGRAM_MODULES / f"kubernetes-{short}" / "go.mod").read_text()
    assert f"k8s.io/kubernetes {pinned}\n" in text
    assert minor_of(pinned) == short
    needed = re.search(r"^go (\d+)\.(\d+)", text, re.MULTILINE)
    assert needed
    assert (int(needed[1]), int(needed[2])) <= GO_NEEDED[short]
    for text in (short, f"v{short}", pinned, pinned.removeprefix("v")):
        assert parse_version(text) == pinned


@pytest.mark.parametrize("text", ["", "1.30", "1", "1.37.99", "latest"])
def test_a_version_without_a_module_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--version") as caught:
        parse_version(text)
    assert "1.33, 1.34, 1.37" in caught.value.hint


def test_a_cluster_that_does_not_exist_has_the_usual_version() -> None:
    assert ClusterPaths("nowhere").version == VERSION
    assert ClusterPaths("nowhere").programs == programs_directory()
