# SPDX-License-Identifier: Apache-2.0
"""Which pods may send from any address: those that say so in exactly this word."""

from __future__ import annotations

import pytest

from kubypass.model.pod import Pod, PodMetadata, with_metadata
from kubypass.plan.foreign_sources import may_send_foreign

ANNOTATION = "kubypass.io/foreign-sources"


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({}, False),
        ({ANNOTATION: "allowed"}, True),
        ({ANNOTATION: "Allowed"}, False),
        ({ANNOTATION: "allowed "}, False),
        ({ANNOTATION: "true"}, False),
        ({ANNOTATION: ""}, False),
        ({"kubypass.io/foreign-source": "allowed"}, False),
        ({"kubypass.io/socket-lb": "allowed"}, False),
    ],
)
def test_the_annotation(annotations: dict[str, str], expected: bool) -> None:
    pod = Pod("default", "router", "", (), "lxc1", "02:00:00:00:00:01", annotations=annotations)
    assert may_send_foreign(pod) is expected
    assert (
        may_send_foreign(PodMetadata("default", "router", "", annotations=annotations)) is expected
    )


@pytest.mark.parametrize(
    ("uid", "record", "api", "expected"),
    [
        ("1", "", "allowed", True),
        ("1", "allowed", "denied", False),  # the object is newer than the record
        ("1", "allowed", "", True),
        ("2", "", "allowed", False),  # another pod of the name
        ("", "", "allowed", True),
    ],
)
def test_the_objects_annotation_counts_for_the_pod_that_it_is_of(
    uid: str, record: str, api: str, expected: bool
) -> None:
    def annotations(value: str) -> dict[str, str]:
        return {ANNOTATION: value} if value else {}

    pod = Pod("a", "b", "1", (), "lxc1", "02:00:00:00:00:01", annotations=annotations(record))
    metadata = PodMetadata("a", "b", uid, annotations=annotations(api))
    (merged,) = with_metadata([pod], {("a", "b"): metadata})
    assert may_send_foreign(merged) is expected
