# SPDX-License-Identifier: Apache-2.0
"""Starts and ends pods: a network namespace, a link to the node, processes in a cgroup."""

from __future__ import annotations

import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

from kubypass.kernel import netns
from kubypass_lab.box import probe, wiring
from kubypass_lab.box.box import Box
from kubypass_lab.box.files import write_json
from kubypass_lab.box.objects import Container, ContainerPort
from kubypass_lab.box.paths import NETNS
from kubypass_lab.box.patience import SLOWNESS
from kubypass_lab.box.process import (
    Process,
    is_alive,
    kill_cgroup,
    last_line,
    spawn,
    stop,
    wait_until,
)
from kubypass_lab.box.record import PodRecord, forget_pod, pod_directory, write_pod

DRAIN_S = 15.0 * SLOWNESS
QUIT_S = 15.0 * SLOWNESS
NGINX_PAGES = (
    Path("/var/www/html/index.nginx-debian.html"),
    Path("/usr/share/nginx/html/index.html"),
)

_NGINX = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
user www-data;
events {{ worker_connections 4096; }}
http {{
    access_log {directory}/access.log;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include /etc/nginx/mime.types;
    keepalive_requests 1000000;
    server {{
{listen}
        root {directory}/html;
        add_header X-Pod {pod};
    }}
}}
"""
_WELCOME = "<!DOCTYPE html>\n<html><head><title>Welcome to nginx!</title></head></html>\n"


def start_pod(box: Box, pod: PodRecord, ports: tuple[ContainerPort, ...]) -> PodRecord:
    """Make a pod and start its processes. The first container also serves `ports`."""
    write_pod(box.paths, pod)
    node, namespace = box.topology.node(pod.node), box.paths.pod_namespace(pod.id)
    node_namespace = box.paths.namespace(pod.node)
    wiring.add_namespace(namespace)
    mac = wiring.make_pod_link(node_namespace, node, namespace, pod.interface, pod.ip_addresses())
    write_json(_agent_record(box, pod), _describe_for_agent(pod, mac, namespace))
    cgroup = box.paths.pod_cgroup(pod.node, pod.id)
    cgroup.mkdir(parents=True, exist_ok=True)
    processes: list[Process] = []
    for index, container in enumerate(pod.containers):
        served = (*(container.ports or ()), *(ports if index == 0 else ()))
        directory = pod_directory(box.paths, pod) / container.name
        directory.mkdir(parents=True, exist_ok=True)
        command = _command(pod, container, served, directory)
        log = directory / "log"
        processes.append(spawn(command, cgroup=cgroup, namespace=namespace, log=log, env={}))
        pod = replace(pod, processes=tuple(processes))
        write_pod(box.paths, pod)
    return pod


def wait_ready(box: Box, pod: PodRecord, ports: tuple[ContainerPort, ...]) -> PodRecord:
    """Wait until a pod answers its node on all its ports, and record the outcome."""
    namespace = box.paths.namespace(pod.node)
    served = (*pod.ports, *ports)
    if is_nginx(pod.containers[0].image) and not served:
        served = (ContainerPort(80),)
    nginx = any(is_nginx(container.image) for container in pod.containers)

    def answers() -> bool:
        if not all(map(is_alive, pod.processes)):
            return True
        with netns.inside(NETNS / namespace):
            return all(
                probe.answers(address, port, http=nginx)
                for address in pod.addresses
                for port in served
            )

    answered = wait_until(answers) and all(map(is_alive, pod.processes))
    pod = replace(pod, state="ready" if answered else "failed")
    write_pod(box.paths, pod)
    return pod


def why_failed(box: Box, pod: PodRecord) -> str:
    """The last log line of a pod that is not ready."""
    logs = [pod_directory(box.paths, pod) / container.name / "log" for container in pod.containers]
    return f"pod/{pod.name} on {pod.node} does not answer: {' · '.join(map(last_line, logs))}"


def drain_pod(pod: PodRecord) -> None:
    """Wait, at most DRAIN_S, until the pod has no established TCP connection."""
    living = [process for process in pod.processes if is_alive(process)]
    if living:
        wait_until(lambda: not probe.has_connections(living[0].pid), DRAIN_S)


def end_processes(box: Box, pod: PodRecord) -> None:
    """End a pod's processes. nginx is allowed to finish its requests."""
    for process, container in zip(pod.processes, pod.containers, strict=False):
        how = signal.SIGQUIT if is_nginx(container.image) else signal.SIGTERM
        stop(process, how, QUIT_S)
    kill_cgroup(box.paths.pod_cgroup(pod.node, pod.id))


def remove_pod(box: Box, pod: PodRecord) -> None:
    """Remove what is left of a pod whose processes have ended."""
    _agent_record(box, pod).unlink(missing_ok=True)
    namespace = box.paths.pod_namespace(pod.id)
    if (NETNS / namespace).exists():
        if probe.has_interface(NETNS / box.paths.namespace(pod.node), pod.interface):
            wiring.delete_link(box.paths.namespace(pod.node), pod.interface)
        wiring.delete_namespace(namespace)
    shutil.rmtree(pod_directory(box.paths, pod), ignore_errors=True)
    forget_pod(box.paths, pod)


def is_nginx(image: str) -> bool:
    """Whether the last part of an image's name says nginx."""
    return "nginx" in image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def _agent_record(box: Box, pod: PodRecord) -> Path:
    return box.paths.agent_run(pod.node) / "pods" / f"{pod.namespace}_{pod.name}.json"


def _describe_for_agent(pod: PodRecord, mac: str, namespace: str) -> dict[str, object]:
    return {
        "namespace": pod.namespace,
        "name": pod.name,
        "uid": pod.uid,
        "addresses": list(pod.addresses),
        "interface": pod.interface,
        "mac": mac,
        "netns": str(NETNS / namespace),
        "labels": pod.labels,
        "annotations": pod.annotations,
        "runtime_class": pod.runtime_class,
    }


def _command(
    pod: PodRecord, container: Container, ports: tuple[ContainerPort, ...], directory: Path
) -> list[str]:
    if is_nginx(container.image):
        return _nginx_command(
            pod,
            [port.container_port for port in ports if port.protocol == "TCP"] or [80],
            directory,
        )
    command = [
        sys.executable,
        "-m",
        "kubypass_lab.box.responder",
        "--pod",
        pod.name,
        "--node",
        pod.node,
    ]
    for port in sorted(
        {(port.protocol.lower(), port.container_port) for port in ports if port.protocol != "SCTP"}
    ):
        command += [f"--{port[0]}", str(port[1])]
    return command


def _nginx_command(pod: PodRecord, ports: list[int], directory: Path) -> list[str]:
    listen = [
        line
        for port in dict.fromkeys(ports)
        for line in (f"listen {port};", f"listen [::]:{port};")
    ]
    text = _NGINX.format(
        directory=directory, pod=pod.name, listen="\n".join(f"        {line}" for line in listen)
    )
    (directory / "nginx.conf").write_text(text)
    html = directory / "html"
    html.mkdir(exist_ok=True)
    page = next((path.read_text() for path in NGINX_PAGES if path.is_file()), _WELCOME)
    (html / "index.html").write_text(page)
    return [
        "nginx",
        "-p",
        str(directory),
        "-c",
        str(directory / "nginx.conf"),
        "-e",
        str(directory / "error.log"),
    ]
