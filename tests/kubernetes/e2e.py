# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' own end-to-end tests, on clusters in a box that differ only in their proxy.

Each proxy gets a new cluster; what passes with kube-proxy here and not with kubypass makes the run
fail. `make e2e` runs all specs of Services and writes docs/e2e.md; `--network` runs the rest of
[sig-network]; `--fast` runs a fixed dozen and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kubypass_lab.box.kubernetes.cluster import Cluster, Plan, down, up
from kubypass_lab.box.kubernetes.kubectl import kubectl_environment
from kubypass_lab.box.kubernetes.programs import (
    END_TO_END,
    VERSION,
    VERSIONS,
    build_programs,
    parse_version,
)
from kubypass_lab.box.kubernetes.proxies import PROXIES, parse_proxy

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "examples/guide"
FAMILIES = ROOT / "examples/families"
RESULTS = ROOT / "build/e2e"
PAGE = ROOT / "docs/e2e.md"
SIG = "[sig-network] "
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


@dataclass(frozen=True, slots=True)
class Group:
    """Specs that are run together."""

    name: str
    title: str
    focus: str  # regular expression of their names
    cannot: dict[str, str]  # what is left out, a regular expression -> why
    dual: bool = False  # on a cluster with both families


SERVICES = Group(
    "services",
    "Services",
    re.escape(f"{SIG}Services "),
    {
        "should work after restarting apiserver": "needs ssh to the control plane's machine",
        "should work after restarting kube-proxy": "needs ssh to nodes; about kube-proxy itself",
        "should allow creating a basic SCTP service": "needs SCTP in the kernel",
    },
)
NETWORK = Group(
    "network",
    "The rest of sig-network",
    re.escape(SIG),
    {
        re.escape(f"{SIG}Services "): "the table above",
        re.escape("[Feature:NetworkPolicy]"): "kubypass has no network policies (48 specs)",
        re.escape("[Feature:LoadBalancer]"): "needs a cloud's load balancers (17 specs)",
        re.escape("[Feature:SCTPConnectivity]"): "needs SCTP in the kernel",
        re.escape("[Feature:Ingress]"): "needs an ingress controller",
        re.escape("[Feature:Networking-"): "needs the internet, or measures something else",
        re.escape("[Feature:KubeProxy"): "about kube-proxy itself",
        re.escape("[Feature:PerformanceDNS]"): "measures the DNS server",
        re.escape("[Feature:OffByDefault]"): "of an API that is off",
        r"\[Serial\]|\[Disruptive\]": "no other spec may run beside it, or it restarts nodes",
    },
    dual=True,
)

# Fails with kubypass by design, and why.
BY_DESIGN = {
    "KubeProxy should set TCP CLOSE_WAIT timeout [Privileged]": "looks for a netfilter entry; kubypass makes none",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one spec ended."""

    state: str  # passed, failed, skipped, …
    seconds: float
    said: str = ""  # the first line of why it did not pass


Results = dict[str, dict[str, Outcome]]  # proxy -> spec -> outcome


def run_specs(cluster: Cluster, group: Group, only: str, processes: int) -> dict[str, Outcome]:
    """Run those specs of a group that match `only` side by side; name -> outcome."""
    directory = RESULTS / f"{cluster.proxy}-{group.name}-{cluster.version}"
    directory.mkdir(parents=True, exist_ok=True)
    programs = build_programs(END_TO_END, print, cluster.version)
    report = directory / "report.json"
    report.unlink(missing_ok=True)
    ginkgo = [
        str(programs / "ginkgo"),
        f"--procs={processes}",
        f"--focus={group.focus}.*({only})",
        f"--skip={'|'.join(group.cannot)}",
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


def read_report(suites: list[dict[str, Any]]) -> dict[str, Outcome]:
    """The outcomes in ginkgo's JSON report, without those specs that were not selected."""
    found = {}
    for spec in (spec for suite in suites for spec in suite["SpecReports"]):
        name = " ".join([*(spec["ContainerHierarchyTexts"] or []), spec["LeafNodeText"]])
        said = spec.get("Failure", {}).get("Message", "")
        if name.startswith(SIG) and (spec["State"] != "skipped" or said):
            line = (said.strip().splitlines() or [""])[0]
            seconds = round(spec["RunTime"] / 1e9, 1)
            found[name.removeprefix(SIG).strip()] = Outcome(spec["State"], seconds, line)
    return found


def write_page(groups: dict[str, Results]) -> str:
    """docs/e2e.md: a table per group, with a row per spec and a column per proxy, and the reason of a failure."""
    lines = [
        "# Kubernetes' own tests",
        "",
        f"Results of specs from the suite of Kubernetes {VERSION}, on clusters in a box with two or three",
        "nodes. `make e2e` writes this page.",
        "The kube-proxy columns are the control group: the same cluster with the real kube-proxy.",
    ]
    for group in (SERVICES, NETWORK):
        if results := groups[group.name]:
            lines += ["", f"## {group.title}", "", *_table(group, results)]
    return "\n".join(lines) + "\n"


def keep_version(page: str, version: str, group: Group, results: Results, *, dozen: bool) -> str:
    """The page with what another version's specs came to, as a section of its own at its end."""
    title = f"## {group.title} of Kubernetes {version}"
    before, _, rest = page.partition(f"\n{title}\n")
    _, found, after = rest.partition("\n## ")
    which = ["The fixed dozen of `--fast`.", ""] if dozen else []
    section = "\n".join([title, "", *which, *_table(group, results)])
    return f"{before.rstrip()}\n\n{section}\n{f'{chr(10)}## {after}' if found else ''}"


def _table(group: Group, results: Results) -> list[str]:
    proxies = list(results)
    lines = [f"- {proxy}: {_count(results[proxy])}" for proxy in proxies]
    lines += [
        "",
        f"| spec | {' | '.join(proxies)} | why |",
        f"| --- |{' --- |' * len(proxies)} --- |",
    ]
    for name in sorted({name for outcomes in results.values() for name in outcomes}):
        found = [results[proxy].get(name) for proxy in proxies]
        cells = [f"{each.state}, {each.seconds:.0f} s" if each else "not run" for each in found]
        why = next((each.said for each in found if each and each.state != "passed"), "")
        why = BY_DESIGN.get(name, why)
        lines.append(f"| {name} | {' | '.join(cells)} | {why.replace('|', '/')} |")
    for pattern, why in group.cannot.items():
        name = pattern.replace("\\", "").replace("|", " or ")
        lines.append(f"| {name} | {' | '.join(['not run'] * len(proxies))} | {why} |")
    return lines


def _count(outcomes: dict[str, Outcome]) -> str:
    states = [each.state for each in outcomes.values()]
    return ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))


def _keep(proxy: str, group: Group, outcomes: dict[str, Outcome]) -> None:
    """Keep a whole run, and write the page again from all that are kept."""
    kept = {name: asdict(each) for name, each in outcomes.items()}
    (RESULTS / f"{proxy}-{group.name}.json").write_text(json.dumps(kept, indent=1) + "\n")
    groups = {
        each.name: {name: found for name in (SUBJECT, *CONTROLS) if (found := _kept(name, each))}
        for each in (SERVICES, NETWORK)
    }
    PAGE.write_text(write_page(groups))


def _kept(proxy: str, group: Group) -> dict[str, Outcome]:
    path = RESULTS / f"{proxy}-{group.name}.json"
    raw = json.loads(path.read_text()) if path.is_file() else {}
    return {name: Outcome(**each) for name, each in raw.items()}


def _run(proxy: str, group: Group, only: str, processes: int, version: str) -> dict[str, Outcome]:
    """Run specs on a new cluster. Some want three nodes."""
    name = "e2e"
    down(name, lambda _: None)
    try:
        file = FAMILIES / "dual-stack.yaml" if group.dual else GUIDE / "config-sample.yaml"
        settings = GUIDE / "cilium-config.yaml"
        own = proxy == SUBJECT
        plan = Plan(file, settings, 3, parse_proxy(proxy), kubypass=own, version=version)
        outcomes = run_specs(up(name, plan, print), group, only, processes)
    finally:
        down(name, lambda _: None)
    for spec, outcome in sorted(outcomes.items()):
        print(f"{proxy}: {outcome.state} in {outcome.seconds:.0f} s: {spec} {outcome.said}")
    return outcomes


def _worse(results: Results) -> list[str]:
    """Specs that fail with kubypass, and pass with kube-proxy if that was run too."""
    controls = [results[proxy] for proxy in CONTROLS if proxy in results]
    return [
        name
        for name, outcome in results.get(SUBJECT, {}).items()
        if outcome.state not in {"passed", "skipped"}
        and name not in BY_DESIGN
        and (not controls or any(each[name].state == "passed" for each in controls if name in each))
    ]


def main() -> int:
    """Run what the command line asks for; 1 if kubypass is worse than the control group."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--proxy", action="append", choices=PROXIES, help="(default: all but none)")
    parser.add_argument("--network", action="store_true", help="the rest of sig-network")
    parser.add_argument("--fast", action="store_true", help="a fixed dozen of Services' specs")
    parser.add_argument("--only", default="", metavar="REGEX", help="only specs with such names")
    parser.add_argument("--version", default=VERSION, help=f"of Kubernetes: {', '.join(VERSIONS)}")
    parser.add_argument("--processes", type=int, default=4)
    arguments = parser.parse_args()
    version = parse_version(arguments.version)
    group = NETWORK if arguments.network else SERVICES
    only = "|".join(map(re.escape, FAST)) if arguments.fast else arguments.only
    results: Results = {}
    for proxy in arguments.proxy or (SUBJECT, *CONTROLS):
        results[proxy] = _run(proxy, group, only, arguments.processes, version)
        if not only and version == VERSION:
            _keep(proxy, group, results[proxy])
    if version != VERSION and not arguments.only:
        PAGE.write_text(
            keep_version(PAGE.read_text(), version, group, results, dozen=arguments.fast)
        )
    ends = [outcome.state for outcomes in results.values() for outcome in outcomes.values()]
    failed = sum(state not in {"passed", "skipped"} for state in ends)
    for name in _worse(results):
        print(f"worse than kube-proxy: {name}")
    print(f"e2e: {ends.count('passed')} passed, {failed} failed, {ends.count('skipped')} skipped")
    return 1 if _worse(results) or "passed" not in ends else 0


if __name__ == "__main__":
    sys.exit(main())
