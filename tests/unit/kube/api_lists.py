# SPDX-License-Identifier: Apache-2.0
"""A source of the API's objects without an API: what its watchers would report is reported by tests."""

from __future__ import annotations

from kubypass.kube.client.access import Access, Trust, parse_server
from kubypass.kube.client.client import Client
from kubypass.kube.client.credentials import FixedToken
from kubypass.kube.watch.api_source import ApiSource
from kubypass.kube.watch.resources import NODES, ObjectUpdate, watched_resources
from kubypass.kube.watch.watch_events import ListFinished, ListStarted, Objects
from kubypass.kube.watch.watch_state import WatchState

SERVICES, SLICES, PODS = watched_resources("node1", "")


def client() -> Client:
    servers = (parse_server("https://192.0.2.1", "test"),)
    return Client(Access(servers, Trust(), FixedToken(), "test", "change it"))


def new_source() -> ApiSource:
    made = ApiSource(client(), "node1")
    made.watch_states = {str(each): WatchState() for each in (NODES, SERVICES, SLICES, PODS)}
    return made


def list_all(source: ApiSource, **found: list[ObjectUpdate]) -> None:
    """Everything that there is."""
    for resource in (NODES, SERVICES, SLICES, PODS):
        for event in (ListStarted(), Objects(found.get(resource.name, [])), ListFinished()):
            source._report(resource, event)
