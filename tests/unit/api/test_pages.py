# SPDX-License-Identifier: Apache-2.0
"""What load balancers and Prometheus read, byte for byte."""

from __future__ import annotations

import pytest

from kubypass.api.health_pages import health_answer, service_answer
from kubypass.api.metric import Histogram, Metric

NOW, EARLIER = 1_700_000_000.25, 1_699_999_000.0
NOW_TEXT, EARLIER_TEXT = "2023-11-14 22:13:20.250000 +0000 UTC", "2023-11-14 21:56:40"


@pytest.mark.parametrize(
    ("healthy", "eligible", "code", "updated"),
    [
        (True, None, 200, NOW_TEXT),
        (False, None, 503, EARLIER_TEXT),
        (True, True, 200, NOW_TEXT),
        (True, False, 503, EARLIER_TEXT),
        (False, True, 503, EARLIER_TEXT),
    ],
)
def test_health(healthy: bool, eligible: bool | None, code: int, updated: str) -> None:
    answer = health_answer(NOW, EARLIER, healthy=healthy, node_eligible=eligible)
    assert (answer.code, answer.kind) == (code, "application/json")
    assert answer.headers == (("X-Content-Type-Options", "nosniff"),)
    assert answer.body.startswith(f'{{"lastUpdated": "{updated}')
    assert f'"currentTime": "{NOW_TEXT}"' in answer.body
    said = {None: "}", True: ', "nodeEligible": true}', False: ', "nodeEligible": false}'}
    assert answer.body.endswith(said[eligible])
    assert ("nodeEligible" in answer.body) == (eligible is not None)


def test_health_before_anything_was_applied() -> None:
    answer = health_answer(NOW, None, healthy=False)
    assert '"lastUpdated": "0001-01-01 00:00:00 +0000 UTC"' in answer.body


@pytest.mark.parametrize(
    ("count", "healthy", "code"),
    [(2, True, 200), (0, True, 503), (2, False, 503), (0, False, 503)],
)
def test_service(count: int, healthy: bool, code: int) -> None:
    answer = service_answer(("shop", "web"), count, proxy_healthy=healthy)
    assert (answer.code, answer.kind) == (code, "application/json")
    assert answer.headers == (
        ("X-Content-Type-Options", "nosniff"),
        ("X-Load-Balancing-Endpoint-Weight", str(count)),
    )
    assert answer.body == (
        '{\n\t"service": {\n\t\t"namespace": "shop",\n\t\t"name": "web"\n\t},\n'
        f'\t"localEndpoints": {count},\n\t"serviceProxyHealthy": {str(healthy).lower()}\n}}'
    )


def test_histograms_count_up_to_each_bound() -> None:
    histogram = Histogram((0.5, 1.0))
    labels = (("ip_family", "IPv4"),)
    assert histogram.samples(labels) == []
    for value in (0.25, 0.5, 0.75, 4.0):
        histogram.observe(value)
    assert Metric("x", "histogram", "Text.", tuple(histogram.samples(labels))).lines() == [
        "# HELP x Text.",
        "# TYPE x histogram",
        'x_bucket{ip_family="IPv4",le="0.5"} 2',
        'x_bucket{ip_family="IPv4",le="1"} 3',
        'x_bucket{ip_family="IPv4",le="+Inf"} 4',
        'x_sum{ip_family="IPv4"} 5.5',
        'x_count{ip_family="IPv4"} 4',
    ]


def test_a_metric_without_samples_is_not_shown() -> None:
    assert Metric("x", "gauge", "Text.", ()).lines() == []
    assert Metric("x", "gauge", "Text.", (("", (), NOW),)).lines()[-1] == "x 1700000000.25"
