# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from kubypass.cli.config import register
from kubypass.errors import ConfigError
from kubypass.settings.document import settings_document
from kubypass.settings.files import inspect_settings, load_settings, parse_overrides
from kubypass.settings.settings import KEYS

ROOT = Path(__file__).parents[3]
CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: cilium-config, namespace: kube-system}
data:
  kube-proxy-replacement: "strict"
  bpf-lb-sock: %s
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_guides_block_unchanged() -> None:
    path = ROOT / "examples/guide/cilium-config.yaml"
    settings, findings = load_settings(path, ["--ipv4-native-routing-cidr=10.233.64.0/18"])
    assert settings.services.kube_proxy_replacement == "strict"
    assert settings.routing.ipv4_native_cidr is not None
    assert len(findings) == 7


def test_a_directory_of_files(tmp_path: Path) -> None:
    (tmp_path / "..2024").mkdir()
    write(tmp_path / "..2024" / "bpf-lb-sock", "false\n")
    (tmp_path / "..data").symlink_to("..2024")
    (tmp_path / "bpf-lb-sock").symlink_to("..data/bpf-lb-sock")
    (tmp_path / "debug").write_bytes(b"\xff")
    settings, findings = inspect_settings(tmp_path)
    assert settings.sockets.load_balancing is False
    assert [(f.key, f.level) for f in findings] == [("debug", "wrong"), ("bpf-lb-sock", "accepted")]


def test_a_config_map(tmp_path: Path) -> None:
    settings, _ = load_settings(write(tmp_path / "c.yaml", CONFIG_MAP % '"false"'))
    assert settings.sockets.load_balancing is False
    other = "kind: ConfigMap\nmetadata: {name: other}\ndata: {bpf-lb-sock: 'true'}\n---"
    settings, _ = load_settings(write(tmp_path / "d.yaml", other + CONFIG_MAP % '"false"'))
    assert settings.sockets.load_balancing is False


def test_a_config_map_holds_text(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", CONFIG_MAP % "true")
    with pytest.raises(ConfigError, match=r'bpf-lb-sock.*write it in quotes, "true"'):
        load_settings(path)
    assert load_settings(path, ["--bpf-lb-sock=true"])[0].sockets.load_balancing


def test_a_block_may_leave_the_quotes_out(tmp_path: Path) -> None:
    text = "bpf-lb-sock: false\nbpf-ct-global-tcp-max: 1048576\n"
    settings, _ = load_settings(write(tmp_path / "c.yaml", text))
    assert (settings.sockets.load_balancing, settings.maps.flows) == (False, 1048576)


def test_what_is_null_in_a_block_is_unset(tmp_path: Path) -> None:
    text = "".join(f"{key.name}: null\n" for key in KEYS)
    assert inspect_settings(write(tmp_path / "a.yaml", text)) == inspect_settings(None)


def test_no_file_and_an_empty_one(tmp_path: Path) -> None:
    assert load_settings(None) == load_settings(write(tmp_path / "c.yaml", "# nothing\n"))


@pytest.mark.parametrize(
    "text",
    ["[", "- a", "text", "kind: Service", "a: 1\n---\nb: 2", "kind: ConfigMap\ndata: []\n", "\0"],
)
def test_files_that_are_no_settings(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path / "c.yaml", text))
    assert "c.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_settings(tmp_path / "missing")


def test_overrides() -> None:
    assert parse_overrides(["--a=b=c", "--d", "--e="]) == {"a": "b=c", "d": "true", "e": ""}
    for wrong in "a=b", "--", "--=b":
        with pytest.raises(ConfigError, match="expected --key=value"):
            parse_overrides([wrong])
    with pytest.raises(ConfigError, match="routing-mode"):
        load_settings(None, ["--routing-mode=tunnel"])


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    found = parser.parse_args(["config", "check", *arguments])
    code: int = found.run(found)
    return code


def test_config_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write(tmp_path / "good.yaml", "kube-proxy-replacement: strict\ncolour: red\n")
    assert run(str(good)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('deprecated kube-proxy-replacement: "strict"  write "true"')
    assert lines[1] == 'unknown    colour: "red"  unknown key; it has no effect'
    assert lines[2] == "2 keys, 2 to look at, 0 wrong"
    ignored = write(tmp_path / "ignored.yaml", "enable-wireguard: true\n")
    assert run(str(ignored)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        'ignored    enable-wireguard: "true"  no effect: kubypass encrypts nothing'
    )
    assert lines[1] == "1 keys, 1 to look at, 0 wrong"
    bad = write(tmp_path / "bad.yaml", "routing-mode: tunnel\n")
    assert run(str(bad), "-o", "json") == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["wrong"] == 1
    assert answer["settings"][0]["key"] == "routing-mode"
    assert answer["settings"][0]["level"] == "wrong"


def test_the_document_is_fresh() -> None:
    written = (ROOT / "docs/settings.md").read_text()
    assert written == settings_document(), (
        "run: python -m kubypass.settings.document > docs/settings.md"
    )
