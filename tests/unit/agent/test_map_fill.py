# SPDX-License-Identifier: Apache-2.0
"""A map that is nearly full is a problem with the setting to raise, a value, and the memory that it takes."""

import pytest

from kubypass.agent.report.map_fill import Fill, fill_metrics, fill_problems
from kubypass.api.metric import render
from kubypass.datapath import layout
from kubypass.datapath.map_fill import COUNTED
from kubypass.settings.maps import MAX_ENTRIES

MIB = 2**20
SERVED_BY_TABLES = {"services", "backends", "slots", "source_ranges", "maglev"}
DO_NOT_FILL = {
    "node_addresses", "pod_devices", "xdp_devices", "transient_ports", "passages",
    "previous_programs", "scratch", "icmp_budget", "decisions", "metrics", "dsr_refusals",  # arrays of a fixed meaning
    "inside", "uplinks", "dsr_peers",  # the agent reports what it cannot write
    "queued_fragments", "refused_binds", "snat_failures",  # the last ones only, for whoever looks
}  # fmt: skip


def flows(entries: int, value: int = 524288) -> Fill:
    return Fill("flows", entries, value, 96 * MIB, "bpf-ct-global-tcp-max", value)


@pytest.mark.parametrize(("entries", "count"), [(471859, 0), (471860, 1), (524288, 1), (0, 0)])
def test_from_ninety_percent_on(entries: int, count: int) -> None:
    assert len(fill_problems([flows(entries)])) == count


def test_it_says_what_to_set_and_what_that_costs() -> None:
    (problem,) = fill_problems([flows(500000)])
    assert problem.subject == "Map flows"
    assert problem.message == (
        "is 95 % full: 500000 of 524288 entries are in use; once it is full, the connection that was silent "
        "longest is lost for each new one; set bpf-ct-global-tcp-max to 1048576 (it is 524288), which takes "
        "96 MiB of memory more, and restart the agent"
    )


def test_a_setting_that_sizes_two_maps_costs_both() -> None:
    key = "bpf-lb-service-backend-map-max"
    backends = Fill("backends", 1000, 1024, 3 * MIB, key, 1024)
    slots = Fill("slots", 0, 2048, 2 * MIB, key, 1024)
    (problem,) = fill_problems([backends, slots])
    assert f"set {key} to 2048 (it is 1024), which takes 5 MiB of memory more" in problem.message


def test_what_cannot_grow_says_so() -> None:
    (largest,) = fill_problems([flows(MAX_ENTRIES, MAX_ENTRIES)])
    assert "is 16777216, the most that is possible" in largest.message
    (fixed,) = fill_problems([Fill("local_addresses", 16000, 16384, MIB)])
    assert "fixed in this version" in fixed.message


def test_dead_sockets_fill_their_map_and_that_is_no_problem() -> None:
    assert fill_problems([Fill("socket_peers", 262144, 262144, MIB, "bpf-sock-rev-map-max")]) == []


def test_every_map_is_counted_or_has_a_reason() -> None:
    assert set(layout.MAP_NAMES) == set(COUNTED) | SERVED_BY_TABLES | DO_NOT_FILL


def test_metrics_by_map() -> None:
    text = render(fill_metrics([flows(7)]))
    assert 'kubypass_map_entries{map="flows"} 7\n' in text
    assert 'kubypass_map_max_entries{map="flows"} 524288\n' in text
    assert f'kubypass_map_memory_bytes{{map="flows"}} {96 * MIB}\n' in text
