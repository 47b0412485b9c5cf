# SPDX-License-Identifier: Apache-2.0
"""Draws ratios with their spread. matplotlib comes with the extra `plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kubypass.errors import KubypassError


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw one point for each run and target: the median, with min and max over the tenths of the run."""
    try:
        import matplotlib as mpl  # noqa: PLC0415
    except ImportError:
        raise KubypassError("--plot needs matplotlib", "pip install 'kubypass-lab[plot]'") from None
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    runs = result["runs"]
    figure, axes = plt.subplots(figsize=(9, 0.6 * len(runs) + 1.6))
    for offset, (name, colour) in enumerate((("control", "#888888"), ("service", "#0969da"))):
        ratios = [run["targets"][name]["ratio"] for run in runs]
        medians = [ratio["median"] for ratio in ratios]
        low = [ratio["median"] - ratio["min"] for ratio in ratios]
        high = [ratio["max"] - ratio["median"] for ratio in ratios]
        heights = [index + 0.25 * offset for index in range(len(runs))]
        axes.errorbar(
            medians, heights, xerr=[low, high], fmt="o", color=colour, label=name, capsize=3
        )
    labels = [f"{r['services']} services, {r['backend']}, {r['connections']}" for r in runs]
    axes.set_yticks(range(len(runs)), labels)
    axes.invert_yaxis()
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xlabel(
        "p50 of the pod's own address / p50 (1.0: no cost; whiskers: tenths of the run)"
    )
    axes.legend(loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
