# SPDX-License-Identifier: Apache-2.0
"""`kubypass status`: what is effective, and why where that is not what was asked for."""

from __future__ import annotations

import argparse
import json
from typing import Any

from kubypass.api.client import get
from kubypass.cli.options import add_output, add_run

_BLOCKS = (
    ("Socket LB", "socket_lb"),
    ("Socket Termination", "socket_termination"),
    ("Bind Protection", "bind_protection"),
    ("Routing", "routing"),
    ("Masquerading", "masquerading"),
    ("Host Routing", "host_routing"),
    ("BandwidthManager", "bandwidth_manager"),
    ("IPv4 BIG TCP", "ipv4_big_tcp"),
    ("IPv6 BIG TCP", "ipv6_big_tcp"),
    ("XDP Acceleration", "xdp_acceleration"),
    ("Hubble", "hubble"),
)
_WIDTH = 25


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser("status", help="what is effective, and why", description=__doc__)
    add_run(parser)
    add_output(parser)
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="features, writes and timings as well"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    _, body = get(arguments.run_directory / "agent.sock", "/status")
    if arguments.output == "json":
        print(json.dumps(json.loads(body), indent=1))
    else:
        print(render(json.loads(body), verbose=arguments.verbose), end="")
    return 0


def _line(name: str, text: object) -> str:
    return f"{name + ':':<{_WIDTH}}{text}".rstrip()


def _block(block: dict[str, Any]) -> str:
    counts = [f"{number} {name} closed" for name, number in block.get("closed", {}).items()]
    if block.get("excluded_pods"):
        counts.append(f"{block['excluded_pods']} pods packet by packet")
    text = f"{block['effective']}   [{', '.join(counts)}]" if counts else str(block["effective"])
    if block["effective"] == block["wanted"]:
        return text
    return f"{text}   (wanted {block['wanted']}: {block['why']})"


def _list(name: str, rows: list[str]) -> list[str]:
    return [_line(name, "none" if not rows else len(rows)), *(f"  {row}" for row in rows)]


def kernel_lines(kernel: dict[str, Any]) -> list[str]:
    """The kernel's release, and a line for each feature that it does not have."""
    rows = [
        f"{one['feature']}: missing (Linux {one['since']})   [{one['purpose']}]"
        for one in kernel["missing"]
    ]
    found = f"missing features: {len(rows)}" if rows else "missing features: none"
    return [_line("Kernel", f"{kernel['release']}   [{found}]"), *(f"  {row}" for row in rows)]


def render(status: dict[str, Any], *, verbose: bool) -> str:
    """The text of the status."""
    replaced = status["kube_proxy_replacement"]
    lines = [
        _line("KubeProxyReplacement", f"{_block(replaced)}   [{', '.join(replaced['devices'])}]")
    ]
    lines.insert(0, _line("Kubernetes", status["kubernetes"]["text"]))
    lines += [_line(name, _block(status[key])) for name, key in _BLOCKS]
    lines += [_line("Attach Mode", status["attach_mode"]), *kernel_lines(status["kernel"])]
    counts = (
        f"{status['services']} ({status['frontends']} frontends, {status['backends']} backends)"
    )
    agent = status["agent"]
    pools = [f"{p['used']}/{p['capacity']} allocated from {p['cidr']}" for p in status["ipam"]]
    lines += [_line("Services", counts), _line("Pods", status["pods"])]
    lines.append(_line("IPAM", ", ".join(pools) or "pods get their addresses from somebody else"))
    state = "Ok" if agent["healthy"] else "waiting for the first complete sync"
    lines.append(
        _line("Agent", f"{state}   {agent['version']} on {agent['node']} (pid {agent['pid']})")
    )
    lines += _list(
        "BPF Maps", [f"{m['name']:<14} {m['max_entries']:>8}" for m in status["bpf_maps"]]
    )
    snat = status["snat"]
    lines.append(_line("SNAT", f"source ports {snat['ports']} ({snat['count']})"))
    lines += [f"  {f['backend']:<38} none free {f['connections']} times" for f in snat["failures"]]
    lines += _list("Problems", [f"{p['subject']}: {p['message']}" for p in status["problems"]])
    lines += _list(
        "Drops", [f"{d['hook']:<12} {d['reason']:<22} {d['packets']}" for d in status["drops"]]
    )
    lines += _list("Notes", status["notes"])
    if status["upgrade"]:
        lines += _list("Upgrade", status["upgrade"])
    if verbose:
        rows = [f"{key + ':':<22} {value}" for key, value in status["details"].items()]
        lines += ["KubeProxyReplacement Details:", *(f"  {row}" for row in rows)]
        for name in ("features", "writes", "timings", "memory"):
            rows = [f"{key:<16} {value}" for key, value in status[name].items()]
            lines += _list(name.capitalize(), rows)
        lines.append(_line("Layout", status["layout"]))
    return "\n".join(lines) + "\n"
