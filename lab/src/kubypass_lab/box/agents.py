# SPDX-License-Identifier: Apache-2.0
"""The agents of a box: each node has one, in its namespace and cgroup, and answers on a Unix socket."""

from __future__ import annotations

import json
import os
import signal
import sys
from http.client import HTTPException
from pathlib import Path

from kubypass.api.client import get
from kubypass.errors import KubypassError
from kubypass_lab.box.files import Json, read_json, write_json
from kubypass_lab.box.paths import BoxPaths
from kubypass_lab.box.patience import DEADLINE_S
from kubypass_lab.box.process import (
    Process,
    is_alive,
    last_line,
    parse_process,
    spawn,
    stop,
    wait_until,
)
from kubypass_lab.box.topology import PlannedNode, Topology


def start_agents(paths: BoxPaths, topology: Topology, settings: Path) -> None:
    """Start the agents that do not run, and wait until each has applied everything once."""
    started = [
        (node, _start_agent(paths, topology, node, settings))
        for node in topology.nodes
        if not is_running(paths, node.name)
    ]
    for node, process in started:
        _wait_healthy(paths, node, process)


def stop_agents(paths: BoxPaths, how: signal.Signals = signal.SIGTERM) -> None:
    """Stop all running agents of the box."""
    for directory in sorted((paths.root / "nodes").glob("*")):
        stop(_recorded(paths, directory.name), how, DEADLINE_S)


def is_running(paths: BoxPaths, node: str) -> bool:
    """Whether the node's agent runs."""
    return is_alive(_recorded(paths, node))


def command_line(paths: BoxPaths, node: str) -> list[str]:
    """The command line that the node's agent was started with, or an empty list if no agent runs."""
    process = _recorded(paths, node)
    if process is None or not is_alive(process):
        return []
    return Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")


def agent_environment(paths: BoxPaths, node: str) -> dict[str, str]:
    """The environment with which `kubypass` commands find the node's agent."""
    search = (
        f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}"
    )
    return {
        "KUBYPASS_RUN": str(paths.agent_run(node)),
        "KUBYPASS_BPFFS": str(paths.node_bpffs(node)),
        "KUBYPASS_CGROUP": str(paths.node_cgroup(node)),
        "PATH": search,
    }


def ask(paths: BoxPaths, node: str, path: str) -> Json:
    """GET `path` from the node's agent; KubypassError if it does not answer with 200 and JSON."""
    status, body = get(paths.agent_run(node) / "agent.sock", path)
    if status != 200:
        raise KubypassError(f"the agent of {node} answers {path} with {status}")
    value = json.loads(body)
    return value if isinstance(value, dict) else {}


def active_backends(paths: BoxPaths, node: str) -> set[str]:
    """The backends, such as 10.233.64.14:80/TCP, to which the node's agent sends new connections."""
    services = ask(paths, node, "/services").get("services")
    return {
        str(backend["address"])
        for service in (services if isinstance(services, list) else [])
        for backend in service["backends"]
        if backend["state"] == "active"
    }


def connected_pods(paths: BoxPaths, node: str) -> set[str]:
    """The uids of the pods whose devices have the programs of the node's agent."""
    pods = ask(paths, node, "/pods").get("pods")
    return {str(pod["uid"]) for pod in (pods if isinstance(pods, list) else []) if pod["connected"]}


def _start_agent(paths: BoxPaths, topology: Topology, node: PlannedNode, settings: Path) -> Process:
    run = paths.agent_run(node.name)
    (run / "agent.sock").unlink(missing_ok=True)
    command = [str(Path(sys.executable).with_name("kubypass")), "agent"]
    command += ["--manifests", str(paths.manifests), "--node", node.name, "--config", str(settings)]
    command += ["--run", str(run), "--bpffs", str(paths.node_bpffs(node.name))]
    command += ["--cgroup", str(paths.node_cgroup(node.name))]
    command += [f"--ipv{cidr.version}-native-routing-cidr={cidr}" for cidr in topology.pod_cidrs]
    process = spawn(
        command,
        cgroup=paths.host_cgroup(node.name),
        namespace=paths.namespace(node.name),
        log=run / "agent.log",
        env={**agent_environment(paths, node.name), "PYTHONUNBUFFERED": "1"},
    )
    write_json(run / "agent.json", process.describe())
    return process


def _wait_healthy(paths: BoxPaths, node: PlannedNode, process: Process) -> None:
    run = paths.agent_run(node.name)

    def healthy() -> bool:
        if not is_alive(process):
            message = f"the agent of {node.name} ended: {last_line(run / 'agent.log')}"
            raise KubypassError(message, f"see {run / 'agent.log'}")
        try:
            return get(run / "agent.sock", "/healthz")[0] == 200
        except (KubypassError, HTTPException):
            return False

    if not wait_until(healthy):
        message = f"the agent of {node.name} is not ready after {DEADLINE_S:.0f} s"
        raise KubypassError(
            f"{message}: {last_line(run / 'agent.log')}", f"see {run / 'agent.log'}"
        )


def _recorded(paths: BoxPaths, node: str) -> Process | None:
    return parse_process(read_json(paths.agent_run(node) / "agent.json"))
