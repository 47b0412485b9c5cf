# SPDX-License-Identifier: Apache-2.0
"""Draws the figures of several proxies side by side. matplotlib comes with the extra `plot`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubypass.errors import KubypassError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = (
    ("exec to every service served (s)", ("ready_s",), 1.0),
    ("resident memory (MB)", ("idle_rss_kb", "peak_kb"), 1 / 1024),
    ("cores at 100 endpoint changes/s", ("cores_at_100_per_s",), 1.0),
    ("endpoint written to first connection (ms)", ("switch_p50_ms", "switch_p99_ms"), 1.0),
    (
        "the same, with 100 other changes/s (ms)",
        ("busy_switch_p50_ms", "busy_switch_p99_ms"),
        1.0,
    ),
)
_LABELS = {"idle_rss_kb": "idle", "peak_kb": "peak"}
_COLOURS = {
    "kubypass": "#0969da",
    "kube-proxy iptables": "#cf8a3a",
    "kube-proxy iptables-nft": "#e3b587",
    "kube-proxy nftables": "#888888",
}


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw one logarithmic panel for each figure: each proxy's median, with least and most over the rounds."""
    try:
        import matplotlib as mpl  # noqa: PLC0415
    except ImportError:
        raise KubypassError("--plot needs matplotlib", "pip install 'kubypass-lab[plot]'") from None
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    summary, size = result["summary"], result["size"]
    figure, axes = plt.subplots(len(_PANELS), 1, figsize=(9, 1.55 * len(_PANELS) + 0.8))
    for panel, (title, keys, factor) in zip(axes, _PANELS, strict=True):
        _draw_panel(panel, title, [(key, factor) for key in keys], summary)
    figure.suptitle(
        f"{size['services']} services x {size['endpoints']} endpoints, {size['nodes']} nodes, "
        f"Kubernetes {result['kubernetes']}",
        fontsize=10,
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _draw_panel(
    panel: Axes, title: str, keys: list[tuple[str, float]], summary: dict[str, Any]
) -> None:
    bar_y, labels = 0.0, []
    for name, figures in summary.items():
        for key, factor in keys:
            if key not in figures:
                continue
            value = {part: number * factor for part, number in figures[key].items()}
            panel.barh(bar_y, value["median"], color=_COLOURS.get(name), height=0.8)
            panel.plot([value["least"], value["most"]], [bar_y, bar_y], color="black", linewidth=1)
            panel.annotate(
                f" {value['median']:.3g}",
                (max(value["median"], value["most"]), bar_y),
                va="center",
                fontsize=8,
            )
            which = _LABELS.get(key) or next(
                (part for part in ("p50", "p99") if f"_{part}_" in key), ""
            )
            labels.append((bar_y, f"{name} {which}".strip()))
            bar_y += 1
        bar_y += 0.4
    panel.set_yticks([at for at, _ in labels], [text for _, text in labels], fontsize=8)
    panel.invert_yaxis()
    panel.set_xscale("log")
    panel.margins(x=0.15)
    panel.set_title(title, fontsize=9, loc="left")
