# SPDX-License-Identifier: Apache-2.0
"""Settings from the cluster's ConfigMap: read before anything else starts, and followed afterwards.

The last settings are kept in the run directory: an agent that restarts while the API is away begins with them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kubypass.agent.log import log
from kubypass.agent.signals import Signals
from kubypass.agent.source.connection_log import ConnectionLog
from kubypass.errors import ConfigError
from kubypass.kernel.files import write_file
from kubypass.kube.config_maps import ConfigMapName, differences, merge
from kubypass.kube.watch.api_source import ApiSource
from kubypass.model.problem import Problem
from kubypass.settings.check import check_settings
from kubypass.settings.finding import Finding
from kubypass.settings.settings import KEYS, Settings

_FILE = "config-map.json"
_PATIENCE_S = 3.0
_KEYS = {key.name: key for key in KEYS}


@dataclass(frozen=True, slots=True)
class _Change:
    """A key whose value in the cluster differs from the value in use."""

    key: str
    message: str
    wrong: bool = False


class ConfigMapSettings:
    """The settings of one ConfigMap, overridden by those of this node."""

    def __init__(
        self, name: ConfigMapName, source: ApiSource, overrides: Mapping[str, str], run: Path
    ) -> None:
        self.problems: tuple[Problem, ...] = ()
        self._name = name
        self._source = source
        self._overrides = overrides
        self._file = run / _FILE
        self._in_use: dict[str, str] = {}
        self._changes: tuple[_Change, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether the cluster's settings may have changed since the last look."""
        return self._source.changed_settings

    @property
    def notes(self) -> list[str]:
        """A line for each value of the cluster that is not in use."""
        return [f"{self._name}: {change.key}: {change.message}" for change in self._changes]

    def first(self, signals: Signals) -> tuple[Settings, tuple[Finding, ...]] | None:
        """Waits for the settings to begin with; None where a signal ended the wait."""
        connection_log, began = ConnectionLog(), time.monotonic()
        self._source.configure()
        while not self._source.configured:
            if signals.wait(self._source.fd, _PATIENCE_S):
                self._source.take()
                connection_log.look(self._source)
            if signals.stopped:
                return None
            away = self._source.connection.reason and time.monotonic() - began > _PATIENCE_S
            if away and (kept := self._kept()) is not None:
                log("settings as they were read last", "WARNING", config_map=self._name)
                return self._begin(kept)
        values = self._values()
        if values is None:
            hint = "create it, or start the agent with --config FILE"
            raise ConfigError(f"--config-map {self._name}: there is none", hint)
        self._keep(values)
        return self._begin(values)

    def _begin(self, values: dict[str, str]) -> tuple[Settings, tuple[Finding, ...]]:
        self._in_use = values
        settings, findings = check_settings({**values, **self._overrides})
        for finding in findings:
            if finding.level == "wrong":
                raise ConfigError(f"{finding} (ConfigMap {self._name})")
        self._source.changed_settings = False
        return settings, findings

    def _values(self) -> dict[str, str] | None:
        own = self._source.snapshot().nodes.get(self._source.node)
        labels = own.labels if own else {}
        values, names, self.problems = merge(self._source.config_maps, labels)
        if names:
            log("settings of this node", config_maps=",".join(names))
        return values

    def look(self, settings: Settings) -> Settings:
        """Returns the settings in use, with the changes that take effect at once."""
        self._source.changed_settings = False
        values = self._values()
        if values is None:
            self._note((_Change("ConfigMap", "is gone; the settings stay as they are"),))
            return settings
        found: list[_Change] = []
        changed: dict[str, object] = {}
        fresh, findings = check_settings({**values, **self._overrides})
        by_key = {finding.key: finding for finding in findings}
        for key, before, after in differences(self._in_use, values):
            known, finding = _KEYS.get(key), by_key.get(key)
            if key in self._overrides:
                message = f"is now {_said(after)}; an argument of the agent goes over it"
                found.append(_Change(key, message))
            elif finding is not None and finding.level == "wrong":
                message = f"is now {_said(after)}: {finding.message}; {_said(before)} stays in use"
                found.append(_Change(key, message, wrong=True))
            elif known is not None and known.live:
                changed[known.path] = fresh.value(known.path)
                log("setting changed", key=key, value=_said(after), takes_effect="now")
            elif known is not None or key == "tunnel":
                message = f"is now {_said(after)}, was {_said(before)}; takes effect when the agent is restarted"
                found.append(_Change(key, message))
        self._note(tuple(found))
        pending = {change.key for change in found}
        self._in_use = {
            key: value
            for key, value in {**values, **self._pending_values(pending)}.items()
            if value is not None
        }
        if not any(change.wrong for change in found):
            self._keep(values)
        return settings.with_values(changed) if changed else settings

    def _pending_values(self, keys: set[str]) -> dict[str, str | None]:
        return {key: self._in_use.get(key) for key in keys}

    def _note(self, changes: tuple[_Change, ...]) -> None:
        for change in changes:
            if change not in self._changes:
                log("setting changed", "WARNING", key=change.key, message=change.message)
        self._changes = changes

    def _keep(self, values: Mapping[str, str]) -> None:
        content = json.dumps({"name": str(self._name), "values": dict(values)})
        write_file(self._file, content.encode(), durable=False)

    def _kept(self) -> dict[str, str] | None:
        try:
            found = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return None
        return dict(found["values"]) if found.get("name") == str(self._name) else None


def _said(value: str | None) -> str:
    return "not set" if value is None else f'"{value}"'
