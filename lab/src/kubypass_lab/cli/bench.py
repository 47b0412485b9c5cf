# SPDX-License-Identifier: Apache-2.0
"""`kubypass bench`: measurements on this machine, side by side within one run."""

from __future__ import annotations

import argparse
import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

from kubypass.cli.table import format_row
from kubypass.errors import ConfigError


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `bench` and its cases."""
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
    maglev = _add_maglev(cases)
    packets = cases.add_parser("packets", help="ns a packet, here and at another commit")
    packets.add_argument("--base", default="HEAD", metavar="COMMIT", help="(default %(default)s)")
    packets.add_argument("--rounds", type=int, default=5, help="runs of each (default 5)")
    packets.set_defaults(run=_packets)
    turns = _add_turns(cases)
    kubernetes = cases.add_parser("kubernetes", help="next to kube-proxy, on a real API server")
    kubernetes.add_argument("--nodes", type=_positive, default=1000)
    kubernetes.add_argument("--services", type=_positive, default=10000)
    kubernetes.add_argument("--endpoints", type=_positive, default=10, help="of each service")
    kubernetes.add_argument(
        "--idle", type=_positive, default=60, metavar="SECONDS", help="rest before changes"
    )
    kubernetes.add_argument("--rate", type=_positive, default=100, help="endpoint changes a second")
    kubernetes.add_argument(
        "--seconds", type=_positive, default=60, help="of them, each turn (default %(default)s)"
    )
    kubernetes.add_argument(
        "--switches", type=_positive, default=50, help="of a service's only endpoint, each turn"
    )
    kubernetes.add_argument("--rounds", type=_positive, default=3, help="turns of each proxy")
    kubernetes.add_argument(
        "--proxies", default="kubypass,iptables,nftables", help="(default %(default)s)"
    )
    kubernetes.add_argument(
        "--kubypass", type=Path, metavar="PROGRAM", help="another version's (default: this one)"
    )
    kubernetes.add_argument("--plot", type=Path, metavar="FILE", help="a picture of the figures")
    kubernetes.set_defaults(run=_kubernetes)
    for case in (connect, scale, maglev, packets, *turns, kubernetes):
        case.add_argument("--json", type=Path, metavar="FILE", help="save all figures")


def _add_maglev(
    cases: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    maglev = cases.add_parser("maglev", help="Maglev beside random selection")
    maglev.add_argument("--services", type=_positive, default=1000)
    maglev.add_argument("--endpoints", type=_positive, default=10, help="of each service")
    maglev.add_argument(
        "--changed", type=_positive, default=100, help="endpoints of the one that changes"
    )
    maglev.add_argument("--changes", type=_positive, default=200, help="changes of one endpoint")
    maglev.set_defaults(run=_maglev)
    return maglev


def _add_turns(
    cases: argparse._SubParsersAction[argparse.ArgumentParser],
) -> list[argparse.ArgumentParser]:
    made = []
    for name, run, about in (
        ("routing", _routing, "BPF host routing next to legacy, in turns"),
        ("masquerade", _masquerade, "pods to the outside, masqueraded and not, in turns"),
    ):
        case = cases.add_parser(name, help=about)
        case.add_argument("--rounds", type=_positive, default=5, help="turns of each (default 5)")
        case.add_argument(
            "--requests",
            type=_positive,
            default=1000,
            help="of each kind, each turn (default 1000)",
        )
        case.set_defaults(run=run)
        made.append(case)
    return made


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text}: expected a number, 1 or more")
    return int(text)


def _save(path: Path | None, result: dict[str, Any]) -> None:
    text = json.dumps(result, indent=1) + "\n"
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _connect(arguments: argparse.Namespace) -> int:
    from kubypass_lab.bench.connect import measure

    try:
        sizes = [int(word) for word in arguments.services.split(",")]
    except ValueError:
        raise ConfigError(
            f"--services {arguments.services}: expected numbers, such as 1,10000"
        ) from None
    result = measure(sizes, arguments.rounds)
    _save(arguments.json, result)
    widths = (-8, 2, 8, 12, -24, -24)
    print(format_row(("services", "", "backend", "connections", "control", "service"), widths))
    for run in result["runs"]:  # type: ignore[attr-defined]
        cells = [_ratio(run["targets"][name]["ratio"]) for name in ("control", "service")]
        print(format_row((run["services"], "", run["backend"], run["connections"], *cells), widths))
    print("ratio of p50 to direct, min/median/max over tenths of the run; 1.0 is no cost")
    if arguments.plot:
        from kubypass_lab.bench.picture import draw

        draw(result, arguments.plot)
    return 0


def _ratio(ratio: dict[str, float]) -> str:
    return f"{ratio['min']:.3f}/{ratio['median']:.3f}/{ratio['max']:.3f}"


def _scale(arguments: argparse.Namespace) -> int:
    from kubypass_lab.bench.scale import measure

    result = measure(arguments.services, arguments.endpoints, arguments.changes)
    _save(arguments.json, result)
    print(json.dumps(result, indent=1))
    return 0


def _maglev(arguments: argparse.Namespace) -> int:
    from kubypass_lab.bench.maglev import MAX_SERVICES, measure

    if arguments.services > MAX_SERVICES:
        raise ConfigError(f"--services {arguments.services}: expected {MAX_SERVICES} at most")
    result: dict[str, Any] = measure(
        arguments.services, arguments.endpoints, arguments.changed, arguments.changes
    )
    _save(arguments.json, result)
    print(json.dumps(result, indent=1))
    one, other = (result[name]["change_ms"]["p50"] for name in ("maglev", "random"))
    moved = result["moved_percent"]
    print(f"a changed endpoint takes {one / other:.1f} times as long as without Maglev;")
    print(f"{moved['random'] / moved['maglev']:.0f} times fewer flows of other endpoints move")
    return 0


def _packets(arguments: argparse.Namespace) -> int:
    from kubypass_lab.bench.packets import measure

    result: dict[str, Any] = measure(arguments.base, arguments.rounds)
    _save(arguments.json, result)
    print(
        f"{format_row(('before', 'after'), (-7, -7))}  ns, the least median of {arguments.rounds} rounds"
    )
    for row in result["rows"]:
        cells = (row["before_ns"], row["after_ns"], "", row["program"], row["row"])
        print(format_row(cells, (-7, -7, 2, 13, 0)))
    return 0


def _routing(arguments: argparse.Namespace) -> int:
    from kubypass_lab.bench.routing import MODES, measure

    say = partial(print, flush=True)
    _show_turns(measure(arguments.rounds, arguments.requests, say), tuple(MODES), arguments.json)
    return 0


def _masquerade(arguments: argparse.Namespace) -> int:
    from kubypass_lab.bench.masquerade import MODES, measure

    say = partial(print, flush=True)
    _show_turns(measure(arguments.rounds, arguments.requests, say), tuple(MODES), arguments.json)
    return 0


def _show_turns(result: dict[str, Any], modes: tuple[str, ...], saved: Path | None) -> None:
    _save(saved, result)
    widths = (13, 12, *(-30 for _ in modes))
    print(format_row(("", "connections", *modes), widths))
    for row in result["rows"]:
        cells = [f"{row['p50_us'][m]} us {_ratio(row['ratio'][m])}" for m in modes]
        print(format_row((row["backend"], row["connections"], *cells), widths))
    print(
        f"p50, and the ratio to it of {modes[0]!r} in the same round, min/median/max; 1.0 is no cost"
    )


def _kubernetes(arguments: argparse.Namespace) -> int:
    from kubypass_lab.bench.kubernetes import measure
    from kubypass_lab.bench.kubernetes_objects import Size
    from kubypass_lab.bench.kubernetes_run import Load
    from kubypass_lab.bench.proxies import choose_proxies

    for number in (signal.SIGINT, signal.SIGTERM):  # both signals remove what was made
        signal.signal(number, signal.default_int_handler)
    size = Size(arguments.nodes, arguments.services, arguments.endpoints)
    load = Load(arguments.idle, arguments.rate, arguments.seconds, arguments.switches)
    proxies = choose_proxies(arguments.proxies, arguments.kubypass)
    result: dict[str, Any] = {}
    for result in measure(size, load, proxies, arguments.rounds, partial(print, flush=True)):
        _save(arguments.json, result)  # so that a failure does not lose an hour's figures
    names = list(result["summary"])
    widths = (22, *(-32 for _ in names))
    print(format_row(("", *names), widths))
    for figure in result["summary"][names[0]]:
        cells = [_spread(result["summary"][name][figure]) for name in names]
        print(format_row((figure, *cells), widths))
    print(f"median (least to most) over {arguments.rounds} rounds")
    if arguments.plot:
        from kubypass_lab.bench.kubernetes_picture import draw

        draw(result, arguments.plot)
    return 0


def _spread(figure: dict[str, float]) -> str:
    return f"{figure['median']:.6g} ({figure['least']:.6g} to {figure['most']:.6g})"
