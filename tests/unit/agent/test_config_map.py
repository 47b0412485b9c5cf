# SPDX-License-Identifier: Apache-2.0
"""Which values of the cluster's ConfigMap take effect at once, and what is told of the others."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from kubypass.agent.source.config_map import ConfigMapSettings
from kubypass.kube.config_maps import FOR_ALL, ConfigMapName, read_config_map
from kubypass.kube.watch.api_source import ApiSource
from kubypass.kube.watch.resources import Resource
from kubypass.kube.watch.watch_events import Objects
from kubypass.kube.watch.watch_state import WatchState
from kubypass.settings.settings import Settings
from tests.unit.kube.api_lists import new_source

NAME = ConfigMapName("kube-system", "kubypass-config")
MAPS = Resource("configmaps", FOR_ALL, namespace=NAME.namespace)


def say(source: ApiSource, **values: str) -> None:
    """The cluster's ConfigMap has these values now."""
    data = {key.replace("_", "-"): value for key, value in values.items()}
    content = {"metadata": {"name": NAME.name, "namespace": NAME.namespace}, "data": data}
    raw = msgspec.Raw(json.dumps(content).encode())
    source.watch_states[str(MAPS)] = WatchState()
    source._report(MAPS, Objects([read_config_map(MAPS, raw, False)]))
    source.take()


@pytest.fixture
def source() -> ApiSource:
    return new_source()


def begin(source: ApiSource, run: Path) -> tuple[ConfigMapSettings, Settings]:
    followed = ConfigMapSettings(NAME, source, {}, run)
    settings, _ = followed._begin(followed._values() or {})
    return followed, settings


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_masquerading_is_switched_at_once(source: ApiSource, tmp_path: Path, family: str) -> None:
    key = f"enable_{family}_masquerade"
    say(source)
    followed, settings = begin(source, tmp_path)
    for value in ("false", "true", "false"):
        say(source, **{key: value})
        assert followed.changed
        settings = followed.look(settings)
        found = {"ipv4": settings.masquerade.ipv4, "ipv6": settings.masquerade.ipv6}
        assert found.pop(family) is (value == "true")
        assert list(found.values()) == [True]
        assert not followed.notes
    say(source, **{key: "perhaps"})
    assert followed.look(settings) is settings
    assert '"false" stays in use' in followed.notes[0]


def test_what_else_masquerading_reads_says_that_it_waits(source: ApiSource, tmp_path: Path) -> None:
    say(source)
    followed, settings = begin(source, tmp_path)
    say(source, enable_ip_masq_agent="true", masquerade_to_node_external_ips="true")
    assert followed.look(settings) == settings
    assert len(followed.notes) == 2
    assert all("takes effect when the agent is restarted" in note for note in followed.notes)
