# SPDX-License-Identifier: Apache-2.0
"""Annotations of pods that change: the agent looks at its pods again exactly where one is to be treated differently."""

from __future__ import annotations

from typing import cast

import pytest

from kubypass.agent.source.cluster_follower import ClusterFollower
from kubypass.agent.source.source import Source
from kubypass.kube.snapshot import Snapshot
from kubypass.model.pod import PodMetadata
from kubypass.model.service import ServiceKey
from kubypass.settings.settings import Settings

POD = ("default", "router")
FOREIGN, SOCKETS = "kubypass.io/foreign-sources", "kubypass.io/socket-lb"


class Pods:
    """The part of a source that tells of pods."""

    def __init__(self) -> None:
        self.metadata: dict[ServiceKey, PodMetadata] = {}
        self.changed = False

    def snapshot(self) -> Snapshot:
        return Snapshot({}, {}, {}, (), {}, self.metadata)

    def take_pod_changes(self) -> bool:
        changed, self.changed = self.changed, False
        return changed

    def say(self, key: ServiceKey, **annotations: str) -> None:
        named = {FOREIGN: annotations.get("foreign", ""), SOCKETS: annotations.get("sockets", "")}
        self.metadata[key] = PodMetadata(*key, "", annotations=named)
        self.changed = True


@pytest.fixture
def pods() -> Pods:
    return Pods()


@pytest.fixture
def follower(pods: Pods) -> ClusterFollower:
    return ClusterFollower(cast("Source", pods), None)


def test_a_router_comes_and_goes(pods: Pods, follower: ClusterFollower) -> None:
    looks = []
    for foreign in ("", "allowed", "allowed", "denied", "denied", "allowed"):
        pods.say(POD, foreign=foreign)
        looks.append(follower.treats_pods_differently(Settings()))
    assert looks == [False, True, False, True, False, True]
    del pods.metadata[POD]
    pods.changed = True
    assert follower.treats_pods_differently(Settings())


def test_one_right_is_not_the_other(pods: Pods, follower: ClusterFollower) -> None:
    """A pod that loses one in the moment in which it gets the other is another pod to us."""
    pods.say(POD, foreign="allowed")
    assert follower.treats_pods_differently(Settings())
    pods.say(POD, sockets="disabled")
    assert follower.treats_pods_differently(Settings())


def test_without_an_event_nothing_is_compared(pods: Pods, follower: ClusterFollower) -> None:
    pods.say(POD, foreign="allowed")
    pods.changed = False
    assert not follower.treats_pods_differently(Settings())
