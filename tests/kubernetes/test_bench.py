# SPDX-License-Identifier: Apache-2.0
"""The measurement next to kube-proxy, small: it ends with figures, and leaves nothing however it ends."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from kubypass.kernel.cgroup import mount_point
from kubypass_lab.box.kubernetes.paths import CGROUP_NAME, ClusterPaths
from kubypass_lab.box.paths import NETNS
from tests.program import KUBYPASS

SMALL = [
    *["--nodes", "3", "--services", "20", "--endpoints", "2"],
    *["--idle", "1", "--rate", "50", "--seconds", "2", "--switches", "3"],
]
PROXIES = ("kubypass", "kube-proxy iptables", "kube-proxy nftables")


def _left_by(pid: int) -> list[Path]:
    paths = ClusterPaths(f"bench{pid}")
    paths_left = [paths.root, mount_point() / CGROUP_NAME / paths.key]
    return [*(each for each in paths_left if each.exists()), *NETNS.glob(f"*{paths.key}*")]


def test_all_proxies_are_measured_in_one_run(tmp_path: Path) -> None:
    saved, picture = tmp_path / "figures.json", tmp_path / "figures.png"
    command = [KUBYPASS, "bench", "kubernetes", *SMALL, "--rounds", "1"]
    process = subprocess.Popen([*command, "--json", str(saved), "--plot", str(picture)])
    assert process.wait(400) == 0
    found = json.loads(saved.read_text())
    assert [run["proxy"] for run in found["runs"]] == list(PROXIES)
    for run in found["runs"]:
        assert run["start"]["services"] == 22
        assert run["churn"]["changes"] == 100
        assert len(run["switch_ms"]) == 3
        assert run["failed_dials"] == 0
    assert found["ratios"].keys() == set(PROXIES[1:])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not _left_by(process.pid)


def test_an_interrupted_run_leaves_nothing() -> None:
    command = [KUBYPASS, "bench", "kubernetes", *SMALL, "--proxies", "nftables"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert any("round 1" in line for line in iter(process.stdout.readline, ""))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    assert not _left_by(process.pid)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--proxies", "ipvs"],
            "--proxies ipvs: 'ipvs', expected kubypass, iptables, iptables-nft, nftables",
        ),
        (["--nodes", "2", "--services", "10"], "--nodes 2: expected 3 or more"),
        (["--services", "none"], "none: expected a number, 1 or more"),
    ],
)
def test_wrong_usage_is_one_line(words: list[str], said: str) -> None:
    done = subprocess.run(
        [KUBYPASS, "bench", "kubernetes", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]
