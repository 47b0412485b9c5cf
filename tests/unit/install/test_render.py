# SPDX-License-Identifier: Apache-2.0
"""`kubypass install` makes the objects that helm makes of the chart, and refuses the values that helm refuses."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from kubypass.errors import ConfigError
from kubypass.install.chart import default_values, rendered_objects, values_schema
from kubypass.install.render import NAMESPACE, render
from kubypass.install.schema import violations
from kubypass.install.values import read_values
from kubypass.version import VERSION

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "deploy/helm/kubypass"
CACHE = Path(os.environ.get("KUBYPASS_CACHE") or Path.home() / ".cache/kubypass")
HELM = next(iter(sorted((CACHE / "helm").glob("*/helm"))), None)
needs_helm = pytest.mark.skipif(HELM is None, reason="helm is not built yet: scripts/helm version")

HOST = {"k8sServiceHost": "192.168.1.10"}
VALUES = {
    "ConfigMaps for some nodes": {**HOST, "nodeConfigs": ["edge", "gpu.nodes"]},
    "privileged": {**HOST, "privileged": True},
    "privileged, with annotations and no CNI": {
        **HOST,
        "privileged": True,
        "podAnnotations": {"a": "b"},
        "cni": {"enabled": False},
    },
    "annotations": {**HOST, "podAnnotations": {"a": "b"}, "image": {"tag": "9"}},
    "one server": HOST,
    "an IPv6 server": {"k8sServiceHost": "fd00::1", "k8sServicePort": 443},
    "no replacement": {"config": {"kube-proxy-replacement": "false"}},
    "no CNI": {**HOST, "cni": {"enabled": False}},
    "other places": {
        **HOST,
        "cni": {"confDir": "/var/lib/cni/net.d", "binDir": "/usr/libexec/cni"},
        "cgroup": {"hostRoot": "/sys/fs/cgroup/unified"},
        "healthPort": 19879,
        "extraArgs": ["--enable-ipv6=false", "--check-every=10"],
    },
    "Cilium's ConfigMap": {**HOST, "configMap": "cilium-config"},
    "more settings": {
        **HOST,
        "config": {"ipv4-native-routing-cidr": "10.244.0.0/16", "enable-ipv6": "false"},
    },
    "a setting less": {**HOST, "config": {"auto-direct-node-routes": None, "routing-mode": None}},
    "another image": {
        **HOST,
        "image": {
            "repository": "registry.local:5000/net/kubypass",
            "tag": "1.2.3",
            "pullPolicy": "Always",
        },
        "imagePullSecrets": [{"name": "registry"}],
    },
    "a digest": {**HOST, "image": {"digest": "sha256:" + "ab" * 32}},
    "the pods": {
        **HOST,
        "resources": {"limits": {"memory": "1Gi"}},
        "nodeSelector": {"kubernetes.io/os": None, "net": "kubypass"},
        "tolerations": [{"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "maxUnavailable": 1,
        "podLabels": {"team": "net"},
        "podAnnotations": {"a/b": "c"},
        "serviceAccount": {"annotations": {"role": "net"}},
    },
    "no policy": {**HOST, "admissionPolicy": False},
    "the pods get nothing": {**HOST, "resources": {"requests": None}, "tolerations": []},
}
WRONG = {
    "k8sServiceHost is not set": {},
    "foo: there is no such value": {**HOST, "foo": 1},
    "image.pullPolicy: 'Sometimes': expected one of Always": {
        **HOST,
        "image": {"pullPolicy": "Sometimes"},
    },
    "config.enable-ipv6: false: expected string": {**HOST, "config": {"enable-ipv6": False}},
    "k8sServicePort: 70000: expected 1 to 65535": {**HOST, "k8sServicePort": 70000},
    "k8sServicePort: true: expected integer": {**HOST, "k8sServicePort": True},
    "maxUnavailable: 0: expected 1 or more": {**HOST, "maxUnavailable": 0},
    "maxUnavailable: '0%': expected": {**HOST, "maxUnavailable": "0%"},
    "extraArgs[0]: 'x': expected ^--": {**HOST, "extraArgs": ["x"]},
    "imagePullSecrets[0]: name is missing": {**HOST, "imagePullSecrets": [{}]},
    "k8sServiceHost: 'https://a': expected": {"k8sServiceHost": "https://a"},
}


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(HELM),
        "template",
        "kubypass",
        str(CHART),
        "-n",
        NAMESPACE,
        "--kube-version",
        "1.34.0",
    ]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)


def as_helm(*arguments: str) -> list[object]:
    done = helm(*arguments)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


@pytest.fixture
def file(tmp_path: Path) -> Callable[[object], Path]:
    def write(values: object) -> Path:
        path = tmp_path / "values.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


@needs_helm
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_the_objects_are_those_of_helm(
    file: Callable[[object], Path], values: dict[str, object]
) -> None:
    path = file(values)
    assert render(read_values([path], [])) == as_helm("-f", str(path))


@needs_helm
@pytest.mark.parametrize("message", WRONG)
def test_what_helm_refuses_is_refused_and_named(
    file: Callable[[object], Path], message: str
) -> None:
    path = file(WRONG[message])
    assert helm("-f", str(path)).returncode != 0
    with pytest.raises(ConfigError, match=re.escape(message)):
        render(read_values([path], []))


@needs_helm
def test_the_manifests_are_fresh() -> None:
    made = subprocess.run(
        [ROOT / "scripts/render-manifests"], capture_output=True, text=True, check=True
    )
    assert made.stdout == (ROOT / "deploy/kubypass.yaml").read_text(), "run make manifests"


@needs_helm
def test_settings_on_the_command_line_go_before_files(file: Callable[[object], Path]) -> None:
    path = file({"k8sServiceHost": "a", "config": {"enable-ipv6": "true"}})
    given = [
        "k8sServiceHost=192.168.1.10",
        "config.enable-ipv6=false",
        "maxUnavailable=2",
        r"podLabels.a\.b/c=d",
    ]
    ours = render(read_values([path], [*given, "cni.enabled=false", "extraArgs={--a=b,--c}"]))
    options = [word for each in given for word in ("--set-string", each)]
    theirs = as_helm(
        *[
            "-f",
            str(path),
            *options,
            "--set",
            "maxUnavailable=2,cni.enabled=false,extraArgs={--a=b,--c}",
        ]
    )
    assert ours == theirs


@pytest.mark.parametrize("setting", ["a", "=b", "a..b=c", ""])
def test_a_wrong_setting_is_named(setting: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"--set {setting}: expected KEY=VALUE")):
        read_values([], [setting])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: ]", "not YAML at line 1"),
        ("- a", "no values in it"),
        (None, "No such file or directory"),
    ],
)
def test_a_file_without_values_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "v.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=f"--values {path}: {message}"):
        read_values([path], [])


def test_the_defaults_are_what_the_schema_wants() -> None:
    assert not list(violations(default_values(), values_schema()))


def test_the_image_has_what_the_package_needs() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    text = (ROOT / "deploy/image/requirements.txt").read_text()
    pinned = dict(
        re.findall(r"^(\w+)==\S+((?: \\\n +--hash=sha256:[0-9a-f]{64})+)$", text, re.MULTILINE)
    )
    assert pinned.keys() == {re.split(r"[>=<~]", each)[0] for each in wanted}
    assert [hashes.count("--hash=") for hashes in pinned.values()] == [2] * len(pinned), (
        "two machines"
    )


def test_there_is_one_version() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    (daemon_set,) = (each for each in rendered_objects() if each["kind"] == "DaemonSet")
    image = daemon_set["spec"]["template"]["spec"]["containers"][0]["image"]
    assert [VERSION, chart["version"], chart["appVersion"], image.rpartition(":")[2]] == [
        wanted
    ] * 4
