# SPDX-License-Identifier: Apache-2.0
"""kube-proxy's metrics: only what was measured, under labels of families that are on."""

from __future__ import annotations

from dataclasses import replace

from kubypass.agent.report.sync_metrics import SyncMetrics
from kubypass.kube.snapshot import Snapshot
from kubypass.model.address import parse_address
from kubypass.model.endpoint import EndpointSlice
from kubypass.model.service import Service
from kubypass.settings.check import check_settings
from kubypass.settings.settings import Settings

KEY = ("default", "web")
WEB = Service(*KEY, "ClusterIP", (parse_address("10.96.0.1"),), (), (), ())
SLICE = EndpointSlice("default", "web-1", "web", 4, (), ())


def lines(metrics: SyncMetrics) -> list[str]:
    shown = [line for metric in metrics.metrics({}, {}) for line in metric.lines()]
    return [line.removeprefix("kubeproxy_sync_") for line in shown if not line.startswith("#")]


def test_before_the_first_pass_there_are_only_counters() -> None:
    assert lines(SyncMetrics(Settings())) == [
        "proxy_rules_service_changes_total 0",
        "proxy_rules_endpoint_changes_total 0",
    ]


def test_a_pass_is_told_for_each_family() -> None:
    metrics = SyncMetrics(Settings())
    metrics.count_pass(0.25, full=True, queued=10.0, done=11.5)
    metrics.count_pass(0.5, full=False, queued=20.0, done=21.5)
    shown = lines(metrics)
    for family in ("IPv4", "IPv6"):
        label = f'{{ip_family="{family}"}}'
        assert f"proxy_rules_duration_seconds_count{label} 2" in shown
        assert f"proxy_rules_duration_seconds_sum{label} 0.75" in shown
        assert f"full_proxy_rules_duration_seconds_sum{label} 0.25" in shown
        assert f"partial_proxy_rules_duration_seconds_sum{label} 0.5" in shown
        assert f"proxy_rules_last_queued_timestamp_seconds{label} 20.0" in shown
        assert f"proxy_rules_last_timestamp_seconds{label} 21.5" in shown
    bounds = [line for line in shown if line.startswith("proxy_rules_duration_seconds_bucket")]
    assert len(bounds) == 2 * 16
    assert 'proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="16.384"} 2' in bounds
    metrics = SyncMetrics(check_settings({"enable-ipv6": "false"})[0])
    metrics.count_pass(0.25, full=True, queued=10.0, done=11.5)
    assert not [line for line in lines(metrics) if "IPv6" in line]


def test_objects_that_changed_are_counted() -> None:
    metrics = SyncMetrics(Settings())
    services = {KEY: WEB}
    slices: dict[tuple[str, str], tuple[EndpointSlice, ...]] = {KEY: (SLICE,)}
    snapshot = Snapshot(services, slices, {}, ())

    def change() -> list[str]:
        metrics.count_changes(snapshot, [KEY])
        return [line.rpartition(" ")[2] for line in lines(metrics)]

    assert change() == ["1", "1"]
    assert change() == ["1", "1"], "a look again changes nothing"
    services[KEY] = replace(WEB, type="NodePort")
    slices[KEY] = (SLICE, replace(SLICE, name="web-2"))
    assert change() == ["2", "2"]
    del services[KEY], slices[KEY]
    assert change() == ["3", "4"]


def test_answers_by_code_and_ports_without_local_endpoints() -> None:
    metrics = SyncMetrics(Settings())
    answers = {("healthz", 503): 1, ("healthz", 200): 3, ("livez", 200): 2}
    found = metrics.metrics(answers, {(4, "external"): 2, (6, "internal"): 0})
    shown = [line for metric in found for line in metric.lines() if not line.startswith("#")]
    assert shown[-5:] == [
        'kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="external"} 2',
        'kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv6",traffic_policy="internal"} 0',
        'kubeproxy_proxy_healthz_total{code="200"} 3',
        'kubeproxy_proxy_healthz_total{code="503"} 1',
        'kubeproxy_proxy_livez_total{code="200"} 2',
    ]
