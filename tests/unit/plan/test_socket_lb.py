# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from kubypass.model.pod import Pod
from kubypass.plan.socket_lb import is_excluded
from kubypass.settings.check import check_settings

LABELS = {"app": "web", "security.istio.io/tlsMode": "istio"}


@pytest.mark.parametrize(
    ("annotations", "labels", "runtime_class", "settings", "expected"),
    [
        ({}, LABELS, "kata", {}, False),
        ({"kubypass.io/socket-lb": "disabled"}, {}, "", {}, True),
        ({"kubypass.io/socket-lb": "enabled"}, {}, "", {}, False),
        ({}, LABELS, "", {"bpf-lb-sock-exclude-pods": "security.istio.io/tlsMode"}, True),
        ({}, LABELS, "", {"bpf-lb-sock-exclude-pods": "app=web,!security.istio.io/tlsMode"}, False),
        ({}, LABELS, "", {"bpf-lb-sock-exclude-pods": "app notin (web)"}, False),
        ({}, {}, "", {"bpf-lb-sock-exclude-pods": ""}, False),
        ({}, {}, "kata", {"bpf-lb-sock-exclude-runtime-classes": "gvisor,kata"}, True),
        ({}, {}, "", {"bpf-lb-sock-exclude-runtime-classes": "gvisor,kata"}, False),
    ],
)
def test_who_is_left_alone(
    annotations: dict[str, str],
    labels: dict[str, str],
    runtime_class: str,
    settings: dict[str, str],
    expected: bool,
) -> None:
    pod = Pod(
        "default",
        "web-0",
        "",
        (),
        "lxc1",
        "02:00:00:00:00:01",
        "",
        labels,
        annotations,
        runtime_class,
    )
    assert is_excluded(pod, check_settings(settings)[0]) is expected
