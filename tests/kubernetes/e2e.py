# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' own end-to-end tests of Services, on clusters that differ only in their proxy.

Each proxy gets a new cluster; what passes with kube-proxy here and not with kubypass makes the run
fail. `make e2e` runs all of them and writes docs/e2e.md; `--fast` runs a fixed dozen and writes
nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from kubypass.box.kubernetes.cluster import Cluster, Plan, down, up
from kubypass.box.kubernetes.kubectl import kubectl_environment
from kubypass.box.kubernetes.programs import END_TO_END, VERSION, build_programs
from kubypass.box.kubernetes.proxies import PROXIES, parse_proxy

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "examples/guide"
RESULTS = ROOT / "build/e2e"
PAGE = ROOT / "docs/e2e.md"
GROUP = "[sig-network] Services "
LIMIT = "60m"
SUBJECT = "kubypass"
CONTROLS = ("kube-proxy-nftables", "kube-proxy-iptables")

FAST = (
    "should serve a basic endpoint from pods",
    "should serve multiport endpoints from pods",
    "should serve endpoints on same port and different protocols",
    "should be able to create a functioning NodePort service",
    "should be able to change the type from ExternalName to NodePort",
    "should have session affinity work for service with type clusterIP",
    "should have session affinity work for NodePort service",
    "should be rejected when no endpoints exist",
    "should be possible to connect to a service via ExternalIP",
    "should allow pods to hairpin back to themselves through services",
    "should preserve source pod IP for traffic thru service cluster IP",
    "should support externalTrafficPolicy=Local for type=NodePort",
)
# Never selected, and why.
CANNOT = {
    "should work after restarting apiserver": "needs ssh to the control plane's machine",
    "should work after restarting kube-proxy": "needs ssh to nodes; about kube-proxy",
    "should allow creating a basic SCTP service": "needs SCTP in the kernel",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one spec ended."""

    state: str  # passed, failed, skipped, …
    seconds: float
    said: str = ""  # the first line of why it did not pass


def run_specs(cluster: Cluster, *, fast: bool, focus: str, processes: int) -> dict[str, Outcome]:
    """Run the selected specs side by side; name -> outcome."""
    directory = RESULTS / cluster.proxy
    directory.mkdir(parents=True, exist_ok=True)
    programs = build_programs(END_TO_END, print)
    report = directory / "report.json"
    report.unlink(missing_ok=True)
    chosen = focus or ("|".join(map(re.escape, FAST)) if fast else "")
    ginkgo = [
        str(programs / "ginkgo"),
        f"--procs={processes}",
        f"--focus={re.escape(GROUP)}.*({chosen})",
        f"--skip={'|'.join(map(re.escape, CANNOT))}",
        f"--timeout={LIMIT}",
        "--no-color",
        f"--output-dir={directory}",
        "--json-report=report.json",
    ]
    suite = [
        "--provider=skeleton",
        f"--kubeconfig={cluster.paths.kubeconfig}",
        f"--kubectl-path={programs / 'kubectl'}",
        f"--num-nodes={len(cluster.nodes)}",
        "--node-os-distro=custom",
        "--disable-log-dump",
        "--dump-logs-on-failure=false",
    ]
    path = f"{programs}:{os.environ['PATH']}"
    command = [*ginkgo, str(programs / "e2e.test"), "--", *suite]
    with (directory / "log").open("w") as log:
        subprocess.run(
            ["nsenter", f"--net={cluster.paths.fabric}", "--", *command],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **kubectl_environment(cluster.paths), "PATH": path},
            check=False,
        )
    if not report.is_file():
        sys.exit(f"ginkgo wrote no report: see {directory / 'log'}")
    return read_report(json.loads(report.read_text()))


def read_report(suites: list[dict]) -> dict[str, Outcome]:
    """The outcomes in ginkgo's JSON report, without those specs that were not selected."""
    found = {}
    for spec in (spec for suite in suites for spec in suite["SpecReports"]):
        name = " ".join([*(spec["ContainerHierarchyTexts"] or []), spec["LeafNodeText"]])
        said = spec.get("Failure", {}).get("Message", "")
        if name.startswith(GROUP) and (spec["State"] != "skipped" or said):
            lines = said.strip().splitlines() or [""]
            found[name.removeprefix(GROUP).strip()] = Outcome(
                spec["State"], spec["RunTime"] / 1e9, lines[0]
            )
    return found


def write_page(results: dict[str, dict[str, Outcome]]) -> str:
    """docs/e2e.md: a row a spec, a column a proxy, and why where one did not pass."""
    proxies = list(results)
    names = sorted({name for outcomes in results.values() for name in outcomes})
    lines = [
        "# Kubernetes' own tests of Services",
        "",
        f"The `[sig-network] Services` specs of Kubernetes {VERSION}'s own suite, on a cluster in",
        "a box with two nodes, run by `make e2e`, which wrote this page. The kube-proxy columns are",
        "the control group: the same cluster with the real kube-proxy.",
        "",
        *(f"- {proxy}: {_count(results[proxy])}" for proxy in proxies),
        "",
        f"| spec | {' | '.join(proxies)} | why |",
        f"| --- |{' --- |' * len(proxies)} --- |",
    ]
    for name in names:
        found = [results[proxy].get(name) for proxy in proxies]
        cells = [f"{each.state}, {each.seconds:.0f} s" if each else "not run" for each in found]
        why = next((each.said for each in found if each and each.state != "passed"), "")
        lines.append(f"| {name} | {' | '.join(cells)} | {why.replace('|', '/')} |")
    for name, why in CANNOT.items():
        lines.append(f"| {name} | {' | '.join(['not run'] * len(proxies))} | {why} |")
    return "\n".join(lines) + "\n"


def _count(outcomes: dict[str, Outcome]) -> str:
    states = [each.state for each in outcomes.values()]
    return ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))


def _keep(proxy: str, outcomes: dict[str, Outcome]) -> None:
    kept = {name: [each.state, each.seconds, each.said] for name, each in outcomes.items()}
    (RESULTS / f"{proxy}.json").write_text(json.dumps(kept, indent=1) + "\n")


def _kept(proxy: str) -> dict[str, Outcome]:
    path = RESULTS / f"{proxy}.json"
    raw = json.loads(path.read_text()) if path.is_file() else {}
    return {name: Outcome(*each) for name, each in raw.items()}


def _run(proxy: str, arguments: argparse.Namespace) -> dict[str, Outcome]:
    name = "e2e"
    down(name, lambda _: None)
    try:
        files = GUIDE / "config-sample.yaml", GUIDE / "cilium-config.yaml"
        cluster = up(name, Plan(*files, 2, parse_proxy(proxy), kubypass=proxy == SUBJECT), print)
        outcomes = run_specs(
            cluster, fast=arguments.fast, focus=arguments.focus, processes=arguments.processes
        )
    finally:
        down(name, lambda _: None)
    for spec, outcome in sorted(outcomes.items()):
        print(f"{proxy}: {outcome.state} in {outcome.seconds:.0f} s: {spec} {outcome.said}")
    return outcomes


def main() -> int:
    """Run what the command line asks for; 1 if kubypass is worse than the control group."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--proxy", action="append", choices=PROXIES, help="(default: all but none)")
    parser.add_argument("--fast", action="store_true", help="a fixed dozen of specs")
    parser.add_argument("--focus", default="", metavar="REGEX", help="only specs with such names")
    parser.add_argument("--processes", type=int, default=4)
    arguments = parser.parse_args()
    whole = not arguments.fast and not arguments.focus
    results = {}
    for proxy in arguments.proxy or (SUBJECT, *CONTROLS):
        results[proxy] = _run(proxy, arguments)
        if whole:
            _keep(proxy, results[proxy])
    if whole:
        kept = {proxy: _kept(proxy) for proxy in (SUBJECT, *CONTROLS)}
        PAGE.write_text(write_page({proxy: each for proxy, each in kept.items() if each}))
    controls = [results[proxy] for proxy in CONTROLS if proxy in results]
    worse = [
        name
        for name, outcome in results.get(SUBJECT, {}).items()
        if outcome.state == "failed"
        and (not controls or any(each[name].state == "passed" for each in controls if name in each))
    ]
    failed = {
        name for each in results.values() for name, end in each.items() if end.state == "failed"
    }
    passed = {
        name for each in results.values() for name, end in each.items() if end.state == "passed"
    }
    print(f"e2e: {len(passed - failed)} passed, {len(failed)} failed")
    return 1 if worse or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
