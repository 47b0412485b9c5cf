# SPDX-License-Identifier: Apache-2.0
"""`kubypass bench`: figures of this machine, side by side within one run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from kubypass.errors import ConfigError


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser("bench", help="measure, side by side", description=__doc__)
    cases = parser.add_subparsers(dest="case", required=True, metavar="CASE")
    connect = cases.add_parser("connect", help="pod -> ClusterIP next to the pod's own address")
    connect.add_argument(
        "--rounds", type=int, default=5000, help="new connections to each target (default 5000)"
    )
    connect.add_argument(
        "--services", default="1,10000", help="sizes to measure at (default %(default)s)"
    )
    connect.add_argument("--plot", type=Path, metavar="FILE", help="a picture of the ratios")
    connect.set_defaults(run=_connect)
    scale = cases.add_parser("scale", help="the agent with many services")
    scale.add_argument("--services", type=int, default=10000)
    scale.add_argument("--endpoints", type=int, default=10, help="of each service")
    scale.add_argument("--changes", type=int, default=200, help="changes of one endpoint")
    scale.set_defaults(run=_scale)
    packets = cases.add_parser("packets", help="ns a packet, here and at another commit")
    packets.add_argument("--base", default="HEAD", metavar="COMMIT", help="(default %(default)s)")
    packets.add_argument("--rounds", type=int, default=5, help="runs of each (default 5)")
    packets.set_defaults(run=_packets)
    for case in (connect, scale, packets):
        case.add_argument("--json", type=Path, metavar="FILE", help="save all figures")


def _save(path: Path | None, result: dict[str, Any]) -> None:
    text = json.dumps(result, indent=1) + "\n"
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _connect(arguments: argparse.Namespace) -> int:
    from kubypass.bench.connect import measure

    try:
        sizes = [int(word) for word in arguments.services.split(",")]
    except ValueError:
        raise ConfigError(
            f"--services {arguments.services}: expected numbers, such as 1,10000"
        ) from None
    result = measure(sizes, arguments.rounds)
    _save(arguments.json, result)
    print(f"{'services':>8}  {'backend':<8}{'connections':<12}{'control':>24}{'service':>24}")
    for run in result["runs"]:  # type: ignore[attr-defined]
        cells = [_ratio(run["targets"][name]["ratio"]) for name in ("control", "service")]
        print(
            f"{run['services']:>8}  {run['backend']:<8}{run['connections']:<12}{cells[0]:>24}{cells[1]:>24}"
        )
    print("ratio of p50 to direct, min/median/max over tenths of the run; 1.0 is no cost")
    if arguments.plot:
        from kubypass.bench.picture import draw

        draw(result, arguments.plot)
    return 0


def _ratio(ratio: dict[str, float]) -> str:
    return f"{ratio['min']:.3f}/{ratio['median']:.3f}/{ratio['max']:.3f}"


def _scale(arguments: argparse.Namespace) -> int:
    from kubypass.bench.scale import measure

    result = measure(arguments.services, arguments.endpoints, arguments.changes)
    _save(arguments.json, result)
    print(json.dumps(result, indent=1))
    return 0


def _packets(arguments: argparse.Namespace) -> int:
    from kubypass.bench.packets import measure

    result: dict[str, Any] = measure(arguments.base, arguments.rounds)
    _save(arguments.json, result)
    print(f"{'before':>7}{'after':>7}  ns, the least median of {arguments.rounds} rounds")
    for row in result["rows"]:
        print(f"{row['before_ns']:>7}{row['after_ns']:>7}  {row['program']:<12} {row['row']}")
    return 0
