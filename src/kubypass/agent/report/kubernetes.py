# SPDX-License-Identifier: Apache-2.0
"""How the connection to the Kubernetes API is, for status and metrics. The server's threads call it."""

from __future__ import annotations

import time

from kubypass.api.metric import Labels, Metric
from kubypass.kube.watch.api_source import ApiSource

_PREFIX = "kubypass_kubernetes_"


def kubernetes_status(source: ApiSource, *, started: bool) -> dict[str, object]:
    """A `text` for people, and the fields that it is made of; times are seconds since 1970."""
    connection, client = source.connection, source.client
    if not connection.reason:
        text = f"Ok   {client.version or 'of unknown version'}   [{client.server}]"
    else:
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(connection.since))
        after = "the datapath stays as it is" if started else "waiting for the first complete sync"
        text = f"disconnected since {since}: {connection.reason}; {after}"
    return {
        "text": text,
        "connected": not connection.reason,
        "since": connection.since,
        "server": str(client.server),
        "version": client.version.git_version if client.version else "",
        "waits_for": [name for name, c in dict(source.watch_states).items() if not c.complete],
    }


def kubernetes_metrics(source: ApiSource) -> list[Metric]:
    """Events, requests, lists and failovers."""
    watchers = list(source.watchers)
    states = dict(source.watch_states)

    def labels(name: str) -> Labels:
        return (("resource", name),)

    by_resource = {
        "events": (
            "Objects that came, in lists and as changes.",
            [(name, state.events) for name, state in states.items()],
        ),
        "requests": (
            "Lists and watches that were begun.",
            [(str(each.resource), each.requests) for each in watchers],
        ),
        "relists": (
            "How often everything was listed again.",
            [(str(each.resource), each.list_watch.relists) for each in watchers],
        ),
    }
    found = [
        Metric(
            f"{_PREFIX}{name}_total",
            "counter",
            text,
            tuple(("", labels(resource), value) for resource, value in values),
        )
        for name, (text, values) in by_resource.items()
    ]
    totals = {
        "reconnects": ("How often the API was away and came back.", source.connection.reconnects),
        "failovers": ("How often another API server was chosen.", source.client.failovers),
    }
    found += [
        Metric(f"{_PREFIX}{name}_total", "counter", text, (("", (), value),))
        for name, (text, value) in totals.items()
    ]
    up = float(not source.connection.reason)
    text = "Whether everything is followed."
    return [*found, Metric(f"{_PREFIX}connected", "gauge", text, (("", (), up),))]
