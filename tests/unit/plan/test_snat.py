# SPDX-License-Identifier: Apache-2.0
"""Source ports for SNAT: where they are, and what the operator is told."""

from __future__ import annotations

import pytest

from kubypass.model.port_range import Ports
from kubypass.plan.snat import more_ports_advice, plan_snat_ports
from kubypass.settings.check import check_settings
from kubypass.settings.masquerade import MasqueradeSettings
from kubypass.settings.node_ports import NodePortSettings
from kubypass.settings.settings import Settings

LINUX = (32768, 60999)


def settings_of(node_ports: Ports, extra: Ports | None) -> Settings:
    return Settings(
        node_ports=NodePortSettings(port_range=node_ports),
        masquerade=MasqueradeSettings(extra_ports=extra),
    )


@pytest.mark.parametrize(
    ("node_ports", "ephemeral", "extra", "expected"),
    [
        ((30000, 32767), LINUX, None, "61000-65535"),
        ((30000, 32767), LINUX, (20000, 24999), "61000-65535, 20000-24999"),
        ((30000, 32767), (10000, 29000), None, "32768-65535"),
        ((30000, 32767), (15000, 64511), None, "64512-65535"),
        ((30000, 32767), (15000, 64512), None, "1024-14999"),
        ((30000, 32767), (1024, 60999), None, "61000-65535"),
        ((61000, 65535), LINUX, None, "1024-32767"),
        ((1024, 65535), LINUX, None, "61000-65535"),
    ],
)
def test_where_nothing_is_amiss(
    node_ports: tuple[int, int],
    ephemeral: tuple[int, int],
    extra: tuple[int, int] | None,
    expected: str,
) -> None:
    settings = settings_of(node_ports, extra)
    ports, problems = plan_snat_ports(settings, ephemeral)
    assert (str(ports), problems) == (expected, ())


@pytest.mark.parametrize(
    ("node_ports", "ephemeral", "extra", "expected", "words"),
    [
        ((30000, 32767), (1024, 65000), None, "65001-65535", "only 535 source ports"),
        ((30000, 32767), (1024, 65535), None, "61000-65535", "overlap the node's ephemeral"),
        ((30000, 32767), LINUX, (40000, 49999), "61000-65535, 40000-49999", "40000-49999 overlap"),
        ((30000, 65535), (1024, 29999), (20000, 29999), "20000-29999", "overlap"),
    ],
)
def test_few_ports_or_shared_ones_are_a_problem(
    node_ports: tuple[int, int],
    ephemeral: tuple[int, int],
    extra: tuple[int, int] | None,
    expected: str,
    words: str,
) -> None:
    settings = settings_of(node_ports, extra)
    ports, (problem,) = plan_snat_ports(settings, ephemeral)
    assert str(ports) == expected
    assert words in problem.message


@pytest.mark.parametrize(
    "text", ["80,90", "1023,2000", "40000", "50000,40000", "x,y", "60000,70000"]
)
def test_a_range_that_is_none_names_what_is_allowed(text: str) -> None:
    settings, (finding,) = check_settings({"node-port-nat-range-ext": text})
    assert settings.masquerade.extra_ports is None
    assert finding.level == "wrong"
    assert "from 1024 to 65535" in finding.message


def test_a_range_with_node_ports_in_it_is_refused_and_names_them() -> None:
    given = {"node-port-nat-range-ext": "20000,30000", "node-port-range": "30000,31000"}
    settings, (finding, other) = check_settings(given)
    assert settings.masquerade.extra_ports is None
    assert (finding.level, other.level) == ("wrong", "accepted")
    assert "outside of node-port-range, 30000,31000" in finding.message
    given["node-port-nat-range-ext"] = "20000,29999"
    assert check_settings(given)[0].masquerade.extra_ports == (20000, 29999)


@pytest.mark.parametrize(
    ("node_ports", "ephemeral", "extra", "expected"),
    [
        (
            (30000, 32767),
            LINUX,
            None,
            "node-port-nat-range-ext: 1024,29999 adds 28976 ports to 4536",
        ),
        ((30000, 32767), LINUX, (20000, 24999), "1024,29999 adds 23976 ports to 9536"),
        (
            (30000, 32767),
            LINUX,
            (1024, 29999),
            "all 33512 ports that can be had are in use: narrow",
        ),
        ((30000, 32767), (1024, 65535), None, "all 4536 ports that can be had are in use: narrow"),
        ((30000, 32767), (10000, 29000), None, "1024,9999 adds 8976 ports to 32768"),
    ],
)
def test_advice_says_how_many_more_ports_there_are(
    node_ports: tuple[int, int],
    ephemeral: tuple[int, int],
    extra: tuple[int, int] | None,
    expected: str,
) -> None:
    settings = settings_of(node_ports, extra)
    advice = more_ports_advice(settings, ephemeral)
    assert expected in advice
    assert advice.endswith("or spread the service over more backends")
