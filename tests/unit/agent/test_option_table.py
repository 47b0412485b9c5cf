# SPDX-License-Identifier: Apache-2.0
"""One table of options: the status, the command line and the documentation say the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubypass.agent.report.figures import Figures
from kubypass.agent.report.option import Inputs
from kubypass.agent.report.option_doc import option_document
from kubypass.agent.report.option_table import OPTIONS, option_rows
from kubypass.kernel.attach.xdp import XdpMode
from kubypass.kernel.features import Features
from kubypass.model.protocol import Protocol
from kubypass.node.facts import NodeState
from kubypass.node.xdp_fit import AcceleratedDevice
from kubypass.settings.check import check_settings
from kubypass.settings.settings import KEYS

ROOT = Path(__file__).resolve().parents[3]
NOTHING = Figures()
LEGACY = {"enable-host-legacy-routing": "true"}
BYPASS = {**LEGACY, "install-no-conntrack-iptables-rules": "true"}


def rows(
    values: dict[str, str], *missing: str, figures: Figures = NOTHING
) -> dict[str, dict[str, object]]:
    """The rows by title, for these settings and a kernel that lacks some features."""
    settings, _ = check_settings(values)
    features = Features(**{name: name not in missing for name in Features.__slots__})
    node = NodeState({}, (), (), {}, frozenset(), (32768, 60999))
    return {
        option.title: row for option, row in option_rows(Inputs(settings, features, node, figures))
    }


def test_the_document_is_fresh() -> None:
    assert (ROOT / "docs/status.md").read_text() == option_document(), (
        "run: python -m kubypass.agent.report.option_doc > docs/status.md"
    )


def test_rows_name_settings_that_exist() -> None:
    known = {key.name for key in KEYS}
    assert {key for option in OPTIONS for key in option.keys} <= known
    titles = [option.title for option in OPTIONS]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(
    ("values", "missing", "title", "wanted", "effective"),
    [
        ({}, (), "Socket LB", "Enabled", "Enabled"),
        ({"bpf-lb-sock-hostns-only": "true"}, (), "Socket LB", "Hostns-only", "Hostns-only"),
        ({"bpf-lb-sock": "false"}, (), "Socket LB", "Disabled", "Hostns-only"),
        ({"kube-proxy-replacement": "false"}, (), "Socket LB", "Disabled", "Disabled"),
        ({}, (), "Backend Selection", "Random", "Random"),
        (
            {"bpf-lb-algorithm": "maglev", "bpf-lb-maglev-table-size": "65521"},
            (),
            "Backend Selection",
            "Maglev (Table Size: 65521)",
            "Maglev (Table Size: 65521)",
        ),
        (
            {"bpf-lb-algorithm-annotation": "true"},
            (),
            "Backend Selection",
            "Random, or Maglev (Table Size: 16381) by annotation",
            "Random, or Maglev (Table Size: 16381) by annotation",
        ),
        ({}, ("refuse_connect",), "Bind Protection", "EADDRINUSE", "EPERM"),
        ({"kube-proxy-replacement": "false"}, (), "Bind Protection", "Disabled", "Disabled"),
        ({}, ("close_sockets",), "Socket Termination", "UDP of the node and of pods", "Disabled"),
        (
            {"ipv4-native-routing-cidr": "10.0.0.0/9", "enable-ip-masq-agent": "true"},
            (),
            "Masquerading",
            "BPF (ip-masq-agent) [] 10.0.0.0/9 [IPv4: Enabled, IPv6: Enabled]",
            "BPF (ip-masq-agent) [] 10.0.0.0/9 [IPv4: Enabled, IPv6: Enabled]",
        ),
        (
            {"enable-ipv4-masquerade": "false", "enable-ipv6-masquerade": "false"},
            (),
            "Masquerading",
            "Disabled",
            "Disabled",
        ),
        ({}, (), "Source IP Verification", "Enabled", "Enabled"),
        (
            {"enable-source-ip-verification": "false"},
            (),
            "Source IP Verification",
            "Disabled",
            "Disabled",
        ),
        ({}, ("tcx",), "Attach Mode", "Legacy TC", "Legacy TC"),
        ({}, (), "NodePort", "Enabled (Range: 30000-32767)", "Enabled (Range: 30000-32767)"),
    ],
)
def test_wanted_and_effective(
    values: dict[str, str], missing: tuple[str, ...], title: str, wanted: str, effective: str
) -> None:
    row = rows(values, *missing)[title]
    assert (row["wanted"], row["effective"]) == (wanted, effective)
    (option,) = [option for option in OPTIONS if option.title == title]
    if wanted == effective:
        assert row["why"] == ""
    else:
        assert row["why"] in option.reasons


def test_details_are_shown_and_named() -> None:
    figures = Figures(started=True, maglev=7, without_table=2)
    row = rows({"bpf-lb-algorithm": "maglev"}, figures=figures)["Backend Selection"]
    assert row["effective"] == "Maglev (Table Size: 16381), but 2 service ports at random"
    assert "bpf-lb-maglev-map-max" in str(row["why"])
    assert row["details"] == ["7 service ports by Maglev"]
    figures = Figures(
        excluded_pods=2, foreign_source_pods=1, sockets_closed={Protocol.UDP: 3, Protocol.TCP: 0}
    )
    found = rows({}, figures=figures)
    assert found["Socket LB"]["details"] == ["2 pods packet by packet"]
    assert found["Socket LB"]["excluded_pods"] == 2
    assert found["Socket Termination"]["details"] == ["3 UDP closed"]
    assert found["Socket Termination"]["closed"] == {"UDP": 3}
    assert found["Source IP Verification"]["details"] == ["1 pods may send from any address"]
    assert found["Source IP Verification"]["exempt_pods"] == 1
    assert rows({})["Source IP Verification"]["details"] == []


def test_families_that_are_not_masqueraded_have_a_reason() -> None:
    figures = Figures(
        started=True, masqueraded=(4,), not_masqueraded="IPv6: a reason", inside=9, lost_sources=2
    )
    row = rows({}, figures=figures)["Masquerading"]
    assert row["wanted"] == "BPF [] [IPv4: Enabled, IPv6: Enabled]"
    assert row["effective"] == "BPF [] [IPv4: Enabled, IPv6: Disabled]"
    assert row["why"] == "IPv6: a reason"
    assert row["details"] == [
        "9 networks and addresses are reached without",
        "2 connections ended as the node lost their address",
    ]


@pytest.mark.parametrize(
    ("values", "figures", "row", "wanted", "effective", "why"),
    [
        ({}, Figures(started=True), "Host Routing", "BPF", "BPF", ""),
        (LEGACY, Figures(started=True, legacy_host=True), "Host Routing", "Legacy", "Legacy", ""),
        (LEGACY, Figures(started=True), "Host Routing", "Legacy", "BPF", "could not be replaced"),
        ({}, Figures(started=True, legacy_host=True), "Host Routing", "BPF", "Legacy", "could not"),
        ({}, NOTHING, "Conntrack Bypass", "Disabled", "Disabled", ""),
        (
            BYPASS,
            Figures(started=True, conntrack_bypass=("", "rules")),
            "Conntrack Bypass",
            "Enabled",
            "Disabled",
            "rules",
        ),
        (
            BYPASS,
            Figures(started=True, conntrack_bypass=("nftables", "")),
            "Conntrack Bypass",
            "Enabled",
            "Enabled",
            "",
        ),
    ],
)
def test_host_routing(
    values: dict[str, str], figures: Figures, row: str, wanted: str, effective: str, why: str
) -> None:
    found = rows(values, figures=figures)[row]
    assert (found["wanted"], found["effective"]) == (wanted, effective)
    assert why in str(found["why"])
    assert bool(why) == bool(found["why"])


NATIVE, GENERIC = XdpMode.NATIVE, XdpMode.GENERIC


@pytest.mark.parametrize(
    ("wanted", "modes", "effective", "why"),
    [
        ("disabled", (), "Disabled", ""),
        ("native", (NATIVE, NATIVE), "Native", ""),
        ("generic", (GENERIC,), "Generic", ""),
        ("native", (NATIVE, None), "Best-Effort", "not every uplink can"),
        ("native", (None,), "Disabled", "no uplink can"),
        ("best-effort", (NATIVE, None), "Best-Effort", ""),
        ("best-effort", (None, None), "Disabled", "no uplink can"),
    ],
)
def test_xdp_on_each_uplink(
    wanted: str, modes: tuple[XdpMode | None, ...], effective: str, why: str
) -> None:
    devices = tuple(
        AcceleratedDevice(f"eth{number}", mode, "" if mode else "so it is")
        for number, mode in enumerate(modes)
    )
    row = rows({"bpf-lb-acceleration": wanted}, figures=Figures(accelerated=devices))
    found = row["XDP Acceleration"]
    assert (found["wanted"], found["effective"]) == (wanted.title(), effective)
    assert str(found["why"]).startswith(why)
    assert bool(found["why"]) == bool(why)
    assert found["details"] == [str(one) for one in devices]
