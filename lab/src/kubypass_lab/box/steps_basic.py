# SPDX-License-Identifier: Apache-2.0
"""The demo's steps a to g: a cluster, settings, nginx, what kubypass shows, and access."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path

from kubypass.errors import KubypassError
from kubypass_lab.box import agents
from kubypass_lab.box.apply import apply_files
from kubypass_lab.box.box import Box, up
from kubypass_lab.box.checks import Checks
from kubypass_lab.box.enter import Target, find_target, run_in
from kubypass_lab.box.files import read_json, write_json
from kubypass_lab.box.kubekey import IPNetwork, read_kubekey
from kubypass_lab.box.paths import FABRIC
from kubypass_lab.box.patience import ANSWER_S
from kubypass_lab.box.record import PodRecord, read_pods
from kubypass_lab.box.snapshot import Snapshot, take_snapshot
from kubypass_lab.box.wiring import ip_batch
from kubypass_lab.checkout import GUIDE

MANIFEST = GUIDE / "my-nginx.yaml"
WELCOME = "Welcome to nginx!"
TRIES = 4  # new connections for each path: with two backends, both are likely to be seen
STATUS_LINES = ("KubeProxyReplacement:", "Routing:", "Masquerading:", "Host Routing:")
VISITOR = "visitor"
WILDCARDS = {4: "0.0.0.0", 6: "::"}  # noqa: S104 (a row of the list, nothing is bound)


@dataclass(frozen=True, slots=True)
class Scenario:
    """The box with nginx in it, and the addresses of its Service."""

    box: Box
    cluster_ips: tuple[str, ...]
    node_port: int

    def pods(self) -> list[PodRecord]:
        """The pods of my-nginx, oldest first."""
        return [pod for pod in read_pods(self.box.paths) if pod.labels.get("run") == "my-nginx"]

    def node_addresses(self) -> list[str]:
        """Addresses of all nodes, in the families of the Service."""
        versions = self.box.topology.families
        return [
            str(a.ip) for node in self.box.nodes for a in node.addresses if a.version in versions
        ]


def make_box(
    checks: Checks, name: str, kubekey: Path, settings: Path
) -> tuple[Box, dict[str, Snapshot]]:
    """Step a: make the cluster that the KubeKey file describes, a second host, and an external client."""
    checks.step(f"a. a cluster in a box from {kubekey}")
    box = up(name, kubekey, settings, lambda line: checks.say(f"      {line}"), with_agents=False)
    wanted = read_kubekey(kubekey)
    first = wanted.hosts[0]
    addresses = [str(each.ip) for each in box.nodes[0].addresses]
    given = [str(each) for each in first.addresses]
    found = f"{box.nodes[0].name} {' '.join(addresses)}"
    checks.check(
        "node1 is the file's host",
        f"{first.name} {' '.join(given)}",
        found,
        passed=set(given) <= set(addresses),
    )
    checks.check(
        "there is a second node",
        "2 or more nodes",
        f"{len(box.nodes)} nodes",
        passed=len(box.nodes) > 1,
    )
    outside = [
        f"{pods} of {node.name}"
        for node in box.nodes
        for pods in node.pod_cidrs
        if not any(_is_within(pods, cidr) for cidr in wanted.pod_cidrs)
    ]
    ranges = " ".join(map(str, wanted.pod_cidrs))
    checks.check(
        "pods' addresses come from kubePodsCIDR",
        f"all in {ranges}",
        outside or f"all in {ranges}",
        passed=not outside,
    )
    client = find_target(box, "client")
    for node in box.nodes:
        for address in (a for a in node.addresses if a.version in box.topology.families):
            url = f"http://{_host(str(address.ip))}:9"
            code = run_in(client, ["curl", "-sg", "-m", "3", url]).returncode
            seen = {7: "an answer: refused", 28: "no answer"}.get(code, f"curl's exit code {code}")
            checks.check(
                f"the client reaches {address.ip} (no one listens)", "an answer: refused", seen
            )
    return box, {node.name: take_snapshot(box, node.name) for node in box.nodes}


def configure(checks: Checks, box: Box) -> None:
    """Step b: use the guide's cilium-config block and agent argument unchanged."""
    checks.step(f"b. settings: {box.settings}")
    node = find_target(box, "node1")
    verdict = run_in(node, ["kubypass", "config", "check", str(box.settings)])
    for line in (verdict.stdout + verdict.stderr).strip().splitlines():
        checks.say(f"      {line}")
    text = box.settings.read_text()
    checks.check("kubypass accepts the settings", "exit code 0", f"exit code {verdict.returncode}")
    if '"strict"' in text:
        noted = [
            line for line in (verdict.stdout + verdict.stderr).splitlines() if "deprecated" in line
        ]
        checks.check(
            '"strict" works, with a note',
            "a line that says deprecated",
            " ".join(noted[0].split()) if noted else "none",
            passed=bool(noted),
        )
    agents.start_agents(box.paths, box.topology, box.settings)
    for planned in box.nodes:
        command = agents.command_line(box.paths, planned.name)
        for cidr in box.topology.pod_cidrs:
            argument = f"--ipv{cidr.version}-native-routing-cidr={cidr}"
            seen = argument if argument in command else "not given"
            checks.check(f"{planned.name}'s agent is ready and was given", argument, seen)


def deploy_nginx(checks: Checks, box: Box) -> Scenario:
    """Step c: apply the guide's Deployment and NodePort Service."""
    checks.step(f"c. {MANIFEST.name}: a Deployment of two nginx and a NodePort Service")
    manifest = _for_families(box)
    apply_files(box, [manifest, _visitor(box)], lambda line: checks.say(f"      {line}"))
    service = read_json(box.paths.manifests / "service_default_my-nginx.json")
    spec = (service or {}).get("spec")
    if not isinstance(spec, dict):
        raise KubypassError("there is no Service my-nginx after applying it")
    scenario = Scenario(box, tuple(spec["clusterIPs"]), int(spec["ports"][0]["nodePort"]))
    pods = scenario.pods()
    nodes = sorted({pod.node for pod in pods if pod.state == "ready"})
    checks.check(
        "two nginx answer, one on each node",
        f"2 on {sorted(n.name for n in box.nodes[:2])}",
        f"{len(pods)} on {nodes}",
    )
    addresses = " ".join(" ".join(pod.addresses) for pod in pods)
    checks.say(
        f"      pods {addresses}, ClusterIP {' '.join(scenario.cluster_ips)}, port {scenario.node_port}"
    )
    return scenario


def show_status(checks: Checks, scenario: Scenario) -> None:
    """Step d: check `kubypass status` on each node."""
    checks.step("d. kubypass status")
    strict = '"strict"' in scenario.box.settings.read_text()
    for node in scenario.box.nodes:
        answer = run_in(find_target(scenario.box, node.name), ["kubypass", "status"])
        lines = {
            line.split(":")[0].strip() + ":": line.strip()
            for line in answer.stdout.splitlines()
            if ":" in line
        }
        if node is scenario.box.nodes[0]:
            for line in answer.stdout.splitlines():
                checks.say(f"      {line}")
        for name in STATUS_LINES:
            expected = (
                f"{name} {'Strict' if strict else 'True'}"
                if name == "KubeProxyReplacement:"
                else f"{name} …"
            )
            seen = lines.get(name) or (answer.stderr.strip() or "no such line")
            value = seen.removeprefix(name).strip()
            passed = (
                name in lines
                and bool(value)
                and (name != "KubeProxyReplacement:" or value.startswith(expected.split()[1]))
            )
            checks.check(f"{node.name}", expected, " ".join(seen.split()), passed=passed)


def show_services(checks: Checks, scenario: Scenario) -> None:
    """Step e: check `kubypass service list` on each node."""
    checks.step("e. kubypass service list")
    versions = scenario.box.topology.families
    backends = sorted(
        f"{_host(a)}:80/TCP (active)" for pod in scenario.pods() for a in pod.addresses
    )
    for node in scenario.box.nodes:
        answer = run_in(find_target(scenario.box, node.name), ["kubypass", "service", "list"])
        if node is scenario.box.nodes[0]:
            for line in answer.stdout.splitlines():
                checks.say(f"      {line}")
        own = [str(a.ip) for a in node.addresses if a.version in versions]
        frontends = [(f"{_host(address)}:80/TCP", "ClusterIP") for address in scenario.cluster_ips]
        wildcards = [WILDCARDS[version] for version in versions]
        frontends += [
            (f"{_host(address)}:{scenario.node_port}/TCP", "NodePort")
            for address in (*wildcards, *own)
        ]
        rows = _rows(answer.stdout)
        for frontend, kind in frontends:
            family = ":" in frontend.rpartition(":")[0].strip("[]")
            expected = [kind, *(b for b in backends if b.startswith("[") == family)]
            seen = rows.get(frontend, ["no such row"])
            checks.check(f"{node.name}: {frontend}", ", ".join(expected), ", ".join(seen))


def show_no_rules(checks: Checks, scenario: Scenario) -> None:
    """Step f: check that netfilter has no rules of kube-proxy."""
    checks.step("f. iptables-save | grep KUBE-SVC")
    script = "(iptables-save; ip6tables-save; nft list ruleset) 2>/dev/null | grep -c KUBE- ; true"
    for node in scenario.box.nodes:
        seen = run_in(find_target(scenario.box, node.name), ["sh", "-c", script]).stdout.strip()
        checks.check(
            f"{node.name}: lines with KUBE- in iptables-save, ip6tables-save and nft", "0", seen
        )


def access(
    checks: Checks,
    scenario: Scenario,
    title: str = "g. the guide's five access paths",
    tries: int = TRIES,
) -> None:
    """Step g: try every access path from every target for which it makes sense."""
    checks.step(title)
    for node in scenario.box.nodes:
        loopback = [
            {4: "127.0.0.1", 6: "::1"}[version] for version in scenario.box.topology.families
        ]
        _fetch_all(checks, find_target(scenario.box, node.name), scenario, loopback, tries)
    for pod in scenario.pods():
        _fetch_all(checks, find_target(scenario.box, f"pod/{pod.name}"), scenario, [], tries)
    client = find_target(scenario.box, "client")
    for address in scenario.node_addresses():
        _fetch(
            checks,
            client,
            f"NodePort at {address}",
            f"{_host(address)}:{scenario.node_port}",
            tries,
        )


def access_from_outside(checks: Checks, scenario: Scenario) -> None:
    """The rest of step g: try bpf-lb-external-clusterip, with the route that an operator would add."""
    if 'bpf-lb-external-clusterip: "true"' not in scenario.box.settings.read_text():
        return
    fabric = scenario.box.paths.namespace(FABRIC)
    node = scenario.box.nodes[0]
    routes = [
        f"{cidr} via {node.address(cidr.version)}" for cidr in scenario.box.topology.service_cidrs
    ]
    ip_batch(fabric, [f"route add {route}" for route in routes])
    try:
        client = find_target(scenario.box, "client")
        for address in scenario.cluster_ips:
            _fetch(
                checks, client, f"ClusterIP by way of {node.name}", f"{_host(address)}:80", TRIES
            )
    finally:
        ip_batch(fabric, [f"route delete {route}" for route in routes])


def _fetch_all(
    checks: Checks, target: Target, scenario: Scenario, loopback: list[str], tries: int
) -> None:
    for address in loopback:
        _fetch(
            checks, target, "NodePort at loopback", f"{_host(address)}:{scenario.node_port}", tries
        )
    for address in scenario.node_addresses():
        _fetch(
            checks, target, "NodePort at a node", f"{_host(address)}:{scenario.node_port}", tries
        )
    for address in scenario.cluster_ips:
        _fetch(checks, target, "ClusterIP", f"{_host(address)}:80", tries)
    for pod in scenario.pods():
        for address in pod.addresses:
            _fetch(checks, target, f"pod on {pod.node}", f"{_host(address)}:80", tries)


def _fetch(checks: Checks, target: Target, what: str, endpoint: str, tries: int) -> None:
    """Fetch a page with curl several times, with a new connection for each request."""
    url = f"http://{endpoint}/"
    answer = run_in(
        target, ["curl", "-sSg", "-m", f"{ANSWER_S:.0f}", "-H", "Connection: close", *[url] * tries]
    )
    pages = answer.stdout.count(f"<title>{WELCOME}</title>")
    error = answer.stderr.strip().splitlines()[:1]
    seen = " ".join([f"{pages} welcome pages", *error])
    checks.check(f"{target.name} → {what}, {url}", f"{tries} welcome pages", seen)


def _rows(listing: str) -> dict[str, list[str]]:
    """Maps each frontend to its type and backends, as `kubypass service list` prints them."""
    rows: dict[str, list[str]] = {}
    current: list[str] = []
    for line in listing.splitlines():
        before, arrow, backend = line.partition("=>")
        words = before.split()
        if len(words) >= 3 and words[0].isdigit():
            current = [words[2]]
            rows[words[1]] = current
        if arrow and current:
            current.append(" ".join(backend.split()))
    return {frontend: [row[0], *sorted(row[1:])] for frontend, row in rows.items()}


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _is_within(inner: IPNetwork, outer: IPNetwork) -> bool:
    if isinstance(inner, ipaddress.IPv4Network) and isinstance(outer, ipaddress.IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, ipaddress.IPv6Network) and isinstance(outer, ipaddress.IPv6Network):
        return inner.subnet_of(outer)
    return False


def _for_families(box: Box) -> Path:
    """The guide's manifest. In a dual-stack box it also asks for both families."""
    if len(box.topology.families) == 1:
        return MANIFEST
    path = box.paths.root / "my-nginx.yaml"
    path.write_text(
        MANIFEST.read_text().replace(
            "  type: NodePort", "  type: NodePort\n  ipFamilyPolicy: PreferDualStack"
        )
    )
    return path


def _visitor(box: Box) -> Path:
    """The manifest of a pod that stays while nginx pods come and go."""
    path = box.paths.root / "visitor.yaml"
    container = {"name": VISITOR, "image": "busybox"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": VISITOR},
        "spec": {"containers": [container]},
    }
    write_json(path, json.loads(json.dumps(pod)))
    return path
