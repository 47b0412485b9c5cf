# SPDX-License-Identifier: Apache-2.0
"""The guide's commands as printed there, typed on node1 of a cluster, and checks of their output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kubypass_lab.box.checks import Checks
from kubypass_lab.box.enter import run_in
from kubypass_lab.box.kubernetes.cluster import Cluster
from kubypass_lab.box.kubernetes.enter import cluster_target
from kubypass_lab.box.patience import ANSWER_S, DEADLINE_S
from kubypass_lab.checkout import GUIDE

Where = Literal["node1", "node2", "client"]
WELCOME = "<title>Welcome to nginx!</title>"
TRIES = 4  # new connections for each path: with two backends, both are likely to be seen
SHOWN = 40  # lines of a command's output
_ROLLED_OUT = "successfully rolled out"

# kubectl's editor: a script that puts the guide's lines into the object.
_EDIT_SETTINGS = """#!/bin/sh
cut -d: -f1 {block} | while read -r key; do sed -i "/^  $key:/d" "$1"; done
sed 's/ *#.*//; s/ *$//; s/^/  /' {block} > {block}.indented
sed -i '/^data:$/r {block}.indented' "$1"
"""
_EDIT_ARGUMENTS = """#!/bin/sh
sed -i 's|^\\( *\\)- agent$|&\\n\\1- {argument}|' "$1"
"""


@dataclass(frozen=True, slots=True)
class Guide:
    """A cluster, with the checks that receive the output of its commands."""

    checks: Checks
    cluster: Cluster

    def type(self, command: str, where: Where = "node1", *, show: bool = True) -> str:
        """Run a command line in a shell, print it with its output, and return the output."""
        target = cluster_target(self.cluster, where)
        result = run_in(target, ["sh", "-c", f"HOME=/run; {command}"], timeout_s=5 * DEADLINE_S)
        output = (result.stdout + result.stderr).strip()
        if show:
            for line in f"{where}$ {command}".splitlines():
                self.checks.say(f"      {line}")
            for line in output.splitlines()[:SHOWN]:
                self.checks.say(f"        {line}")
        return output


def create_nginx(guide: Guide) -> int:
    """Create the Deployment, expose it, and look at the Service. Returns its node port."""
    say = guide.checks.check
    deployment = (GUIDE / "my-nginx.yaml").read_text().partition("---\n")[0]
    said = guide.type(f"cat << EOF | kubectl apply -f -\n{deployment}EOF")
    say("the Deployment is made", "deployment.apps/my-nginx created", said)
    said = guide.type("kubectl expose deployment my-nginx --type=NodePort --port=80")
    say("it is exposed", "service/my-nginx exposed", said)
    said = guide.type("kubectl rollout status deployment my-nginx --timeout=240s")
    say("it runs", _ROLLED_OUT, _last(said), passed=said.endswith(_ROLLED_OUT))
    said = guide.type("kubectl get svc my-nginx")
    row = _last(said).split()
    say("get svc shows a NodePort", "NodePort", row[1] if len(row) > 1 else said)
    said = guide.type(
        "node_port=$(kubectl get svc my-nginx -o=jsonpath='{@.spec.ports[0].nodePort}')\n"
        "echo $node_port"
    )
    say("the node port", "a number from 30000 to 32767", said, passed=said.isdigit())
    return int(said) if said.isdigit() else 0


def delete_nginx(guide: Guide) -> None:
    """Delete the Deployment and its Service."""
    said = guide.type("kubectl delete svc/my-nginx deployment/my-nginx --wait")
    guide.checks.check("nginx is deleted", 2, said.count("deleted"))


def remove_kube_proxy(guide: Guide) -> None:
    """Save kube-proxy's DaemonSet to a file, delete it, and remove the rules that it left."""
    check = guide.checks.check
    backup = "~/kube-proxy-backup.yaml"
    guide.type(f"kubectl -n kube-system get ds kube-proxy -o yaml > {backup}")
    said = guide.type(f"grep '^kind:' {backup}")
    check("the DaemonSet is in the file", "kind: DaemonSet", said)
    said = guide.type("kubectl -n kube-system delete ds kube-proxy")
    check("kube-proxy is deleted", "deleted", said, passed="deleted" in said)
    guide.type(
        "kubectl -n kube-system wait --for=delete pod -l k8s-app=kube-proxy --timeout=240s",
        show=False,
    )
    guide.checks.say(
        "      it leaves its rules; Cilium's documentation clears them so, on each node:"
    )
    for node in guide.cluster.nodes:
        for family in ("iptables", "ip6tables"):
            command = f"{family}-save | grep -v KUBE | {family}-restore"
            guide.type(command, _where(node.alias), show=family == "iptables")


def configure(guide: Guide) -> None:
    """Put the guide's block into the ConfigMap and its argument into the DaemonSet, with `kubectl edit`."""
    check = guide.checks.check
    block = (GUIDE / "cilium-config.yaml").read_text()
    _write_file(guide, "/run/block", block)
    _write_file(guide, "/run/edit-settings", _EDIT_SETTINGS.format(block="/run/block"))
    for line in block.splitlines():
        guide.checks.say(f"      {line}")
    edit = "KUBE_EDITOR='sh /run/edit-settings' kubectl -n kube-system edit cm kubypass-config"
    said = guide.type(edit)
    check("the ConfigMap is changed", "configmap/kubypass-config edited", said)
    argument = f"--ipv4-native-routing-cidr={guide.cluster.topology.pod_cidrs[0]}"
    _write_file(guide, "/run/edit-arguments", _EDIT_ARGUMENTS.format(argument=argument))
    edit = "KUBE_EDITOR='sh /run/edit-arguments' kubectl -n kube-system edit ds kubypass"
    said = guide.type(edit)
    check("the DaemonSet is changed", "daemonset.apps/kubypass edited", said)
    said = guide.type("kubectl -n kube-system rollout status ds kubypass --timeout=240s")
    check("it runs again", _ROLLED_OUT, _last(said), passed=said.endswith(_ROLLED_OUT))
    said = guide.type("kubectl -n kube-system get ds kubypass -o yaml", show=False)
    seen = argument if argument in said else "not there"
    check("the argument is among the DaemonSet's", argument, seen)


def show_status(guide: Guide) -> None:
    """Check that `kubypass status` reports that kube-proxy is replaced."""
    said = guide.type("kubectl -n kube-system exec -it ds/kubypass -- kubypass status")
    rows = [" ".join(line.split()) for line in said.splitlines()]
    wanted = "KubeProxyReplacement: Strict"
    seen = next((row for row in rows if row.startswith("KubeProxyReplacement:")), "no such line")
    guide.checks.check("status", wanted, seen, passed=seen.startswith(wanted))


def show_services(guide: Guide, node_port: int) -> None:
    """Check that `kubypass service list` shows the NodePort with both pods as backends."""
    said = guide.type("kubectl -n kube-system exec ds/kubypass -- kubypass service list")
    lines = said.splitlines()
    for frontend in (f"0.0.0.0:{node_port}/TCP", f"{_cluster_ip(guide)}:80/TCP"):
        start = next((i for i, line in enumerate(lines) if f" {frontend} " in line), None)
        rows = [] if start is None else lines[start : start + 2]
        active = sorted(row.split("=>")[1].strip() for row in rows if "(active)" in row)
        wanted = sorted(f"{address}:80/TCP (active)" for address in _pod_addresses(guide))
        guide.checks.check(f"service list: {frontend}", ", ".join(wanted), ", ".join(active))


def count_rules(guide: Guide, *, expected: bool) -> None:
    """Run `iptables-save | grep KUBE-SVC` on every node."""
    for node in guide.cluster.nodes:
        said = guide.type("iptables-save | grep KUBE-SVC", _where(node.alias), show=False)
        lines = [line for line in said.splitlines() if not line.startswith("#")]
        guide.checks.say(f"      {node.alias}$ iptables-save | grep KUBE-SVC")
        guide.checks.check(
            f"{node.alias}: lines with KUBE-SVC",
            "some" if expected else 0,
            len(lines),
            passed=bool(lines) == expected,
        )


def access(guide: Guide, node_port: int) -> None:
    """Try the guide's five access paths from every node, and NodePorts from outside."""
    pods, nodes = _pod_addresses(guide), guide.cluster.nodes
    for node in nodes:
        paths = {
            "1. loopback + NodePort": [f"127.0.0.1:{node_port}"],
            "2. a node's eth0 + NodePort": [f"{each.address(4)}:{node_port}" for each in nodes],
            "3. ClusterIP": [f"{_cluster_ip(guide)}:80"],
            "4. 5. pods of this and the other node": [f"{address}:80" for address in pods],
        }
        for what, endpoints in paths.items():
            for endpoint in endpoints:
                _fetch(guide, _where(node.alias), what, endpoint)
    for node in nodes:
        _fetch(guide, "client", "NodePort from outside", f"{node.address(4)}:{node_port}")


def _fetch(guide: Guide, where: Where, what: str, endpoint: str) -> None:
    urls = " ".join([endpoint] * TRIES)
    said = guide.type(
        f"curl -sS -m {ANSWER_S:.0f} -H 'Connection: close' {urls}", where, show=False
    )
    seen = f"{said.count(WELCOME)} welcome pages"
    errors = [line for line in said.splitlines() if line.startswith("curl:")]
    seen = " ".join([seen, *errors[:1]])
    text = f"{where}$ curl {endpoint} ({what})"
    guide.checks.check(text, f"{TRIES} welcome pages", seen)


def _last(said: str) -> str:
    return (said.splitlines() or ["nothing"])[-1]


def _cluster_ip(guide: Guide) -> str:
    return guide.type("kubectl get svc my-nginx -o jsonpath='{.spec.clusterIP}'", show=False)


def _pod_addresses(guide: Guide) -> list[str]:
    template = "jsonpath='{.items[*].status.podIP}'"
    return guide.type(f"kubectl get pods -l run=my-nginx -o {template}", show=False).split()


def _write_file(guide: Guide, path: str, text: str) -> None:
    target = cluster_target(guide.cluster, "node1")
    run_in(target, ["sh", "-c", 'printf "%s" "$1" > "$2"', "sh", text, path])


def _where(alias: str) -> Where:
    return "node1" if alias == "node1" else "node2"
