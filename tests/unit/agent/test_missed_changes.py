# SPDX-License-Identifier: Apache-2.0
"""A change that an event reports is no missed change, whenever it happens; one that no event reports is found."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubypass.agent.source.manifests import Manifests

WARNING = "a change was missed until now"
OLD_S = 60


def service(name: str, address: str = "10.0.0.1") -> str:
    return (
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n"
        f"spec: {{clusterIP: {address}, ports: [{{port: 80}}]}}\n"
    )


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Manifests]:
    (tmp_path / "web.yaml").write_text(service("web"))
    found = Manifests(tmp_path, proxy_name="")
    found.start()
    yield found
    found.stop()


def age(path: Path) -> None:
    """Makes a file look as if it had been written long ago."""
    then = time.time() - OLD_S
    os.utime(path, (then, then))


@pytest.mark.parametrize("change", ["write", "rename", "remove", "new directory", "link"])
def test_a_change_whose_event_waits_is_taken_and_not_missed(
    source: Manifests, tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ("default", "web")
    if change == "write":
        (tmp_path / "web.yaml").write_text(service("web", "10.0.0.22"))
        age(tmp_path / "web.yaml")
    elif change == "rename":
        (tmp_path / ".new").write_text(service("web", "10.0.0.33"))
        age(tmp_path / ".new")
        (tmp_path / ".new").rename(tmp_path / "web.yaml")
    elif change == "remove":
        (tmp_path / "web.yaml").unlink()
    else:
        inside = tmp_path / "more" if change == "new directory" else tmp_path / "..1"
        inside.mkdir()
        (inside / "other.yaml").write_text(service("other", "10.0.0.2"))
        age(inside / "other.yaml")
        if change == "link":
            (tmp_path / "other.yaml").symlink_to("..data/other.yaml")
            source.take()
            (tmp_path / "..data").symlink_to("..1")
        wanted = ("default", "other")
    assert wanted in source.scan()
    assert source.scan() == set()
    assert WARNING not in capsys.readouterr().err


def test_a_file_that_is_half_written_is_left_to_its_event(
    source: Manifests, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "web.yaml").open("w") as file:
        file.write("apiVersion: v1\n")
        file.flush()
        assert source.scan() == set()
        assert source.problems() == ()
        assert ("default", "web") in source.snapshot().services
        file.write(service("web", "10.0.0.9").removeprefix("apiVersion: v1\n"))
    assert source.take() == {("default", "web")}
    assert WARNING not in capsys.readouterr().err


def test_churn_during_checks_warns_never_and_loses_nothing(
    source: Manifests, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = threading.Event()

    def churn() -> None:
        for number in range(300):
            path = tmp_path / f"s{number % 40}.yaml"
            if number % 3:
                path.write_text(service(f"s{number % 40}", f"10.0.1.{number % 250}"))
            else:
                path.unlink(missing_ok=True)
        done.set()

    thread = threading.Thread(target=churn)
    thread.start()
    while not done.is_set():
        source.take()
        source.scan()
    thread.join()
    source.take()
    kept = {name for _, name in source.snapshot().services}
    assert kept == {path.stem for path in tmp_path.glob("*.yaml")}
    assert WARNING not in capsys.readouterr().err


def test_a_change_that_no_event_reports_is_found_and_named(
    source: Manifests, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside.yaml"
    os.link(tmp_path / "web.yaml", outside)
    outside.write_text(service("web", "10.0.0.44"))
    age(outside)
    source.take()
    assert source.scan() == {("default", "web")}
    said = capsys.readouterr().err
    assert f"WARNING {WARNING} files=1" in said
    assert "web.yaml" in said
