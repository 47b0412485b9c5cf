# SPDX-License-Identifier: Apache-2.0
"""`kubypass connectivity test`: its pods connect to each other, to services and to the outside, on any cluster.

Puts pods and services into the namespace kubypass-test, on two nodes where there are two. Removes them at the end, also
after Ctrl-C. Needs only the API server.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kubypass.cli.options import add_kubeconfig, add_output, add_wait
from kubypass.cli.table import format_row
from kubypass.model.address import in_brackets

if TYPE_CHECKING:
    from kubypass.connectivity.paths import Path
    from kubypass.connectivity.run import Report

_PROXIES = {
    "ebpf": "kubypass",
    "": "no kubypass agent and no kube-proxy answers on port 10249 of its loopback",
}


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "connectivity", help="try every path in a cluster, with pods of its own"
    )
    commands = parser.add_subparsers(dest="connectivity_command", required=True, metavar="COMMAND")
    test = commands.add_parser(
        "test",
        help="deploy, try, tell, remove",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    test.add_argument(
        "--image",
        default="",
        metavar="IMAGE",
        help="with python3 and kubypass in it (default: the agents' image, or kubypass/kubypass of this version)",
    )
    test.add_argument(
        "--node",
        action="append",
        default=[],
        metavar="NAME",
        help="one of the nodes; twice for two",
    )
    test.add_argument(
        "--outside",
        action="append",
        default=[],
        type=_address_port,
        metavar="HOST:PORT",
        help="dialled from pod and node",
    )
    add_wait(test, 120, "for pods to be ready")
    test.add_argument(
        "--keep", action="store_true", help="leave the pods and services for a closer look"
    )
    add_output(test)
    add_kubeconfig(test)
    test.set_defaults(run=_run)


def _address_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536 or (":" in host) != bracketed:
        raise argparse.ArgumentTypeError(f"{text}: expected HOST:PORT, an IPv6 address in brackets")
    return host.strip("[]"), int(port)


def _run(arguments: argparse.Namespace) -> int:
    from kubypass.connectivity.run import Options, run
    from kubypass.kube.client.rest import open_cluster
    from kubypass.version import VERSION

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    options = Options(
        arguments.image,
        f"kubypass/kubypass:{VERSION}",
        arguments.node,
        arguments.outside,
        arguments.wait,
        arguments.keep,
    )
    report = run(open_cluster(arguments.kubeconfig), options, _say, _progress)
    if arguments.output == "json":
        print(json.dumps(_as_json(report), indent=1))
    else:
        print("\n".join(_lines(report)))
    return 1 if report.failed else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _progress(done: int, rows: int) -> None:
    if sys.stderr.isatty():
        print(
            f"\r{done} of {rows} paths",
            end="\r" if done < rows else "\n",
            file=sys.stderr,
            flush=True,
        )


def _lines(report: Report) -> Iterable[str]:
    for node, proxy in zip(report.nodes, report.proxies, strict=True):
        addresses = ", ".join([*node.host.values(), *node.pod.values()])
        who = _PROXIES.get(proxy, f"kube-proxy ({proxy}) answers on port 10249 of its loopback")
        yield f"{node.letter} is {node.name} ({addresses}): {who}"
    if len(report.nodes) == 1:
        yield "one node only: paths between nodes are not tried"
    yield ""
    what = max(len(each.path.what) for each in report.results)
    target = max(len(_target(each.path)) for each in report.results)
    widths = (5, 8, what + 2, 8, target + 2, 0)
    for each in report.results:
        path = each.path
        word = "ok" if each.passed else ("FAIL" if report.counts(each) else "no")
        cells = (word, path.source, path.what, path.protocol, _target(path), each.detail)
        yield format_row(cells, widths)
        yield from (f"       dropped on {reason}" for reason in each.reasons)
    yield ""
    passed, failed = sum(each.passed for each in report.results), len(report.failed)
    other = len(report.results) - passed - failed
    yield f"{passed} passed, {failed} failed" + (
        f", {other} that this proxy does not serve" if other else ""
    )


def _target(path: Path) -> str:
    return f"{in_brackets(path.host)}:{path.port}" if path.port else path.host


def _as_json(report: Report) -> dict[str, object]:
    rows = [
        {
            "from": each.path.source,
            "path": each.path.what,
            "protocol": each.path.protocol,
            "to": _target(each.path),
            "passed": each.passed,
            "counts": report.counts(each),
            "detail": each.detail,
            "drops": list(each.reasons),
        }
        for each in report.results
    ]
    nodes = [
        {"name": node.name, "letter": node.letter, "proxy": proxy}
        for node, proxy in zip(report.nodes, report.proxies, strict=True)
    ]
    return {
        "nodes": nodes,
        "paths": rows,
        "passed": sum(each.passed for each in report.results),
        "failed": len(report.failed),
    }
