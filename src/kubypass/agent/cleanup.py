# SPDX-License-Identifier: Apache-2.0
"""Takes everything of ours off this node: programs, pins, routes, sysctl changes. Pods' own devices stay."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from kubypass.agent.lock import running_agent
from kubypass.agent.pod_network import DELETES, MARKS, SOCKET
from kubypass.cni import conflist
from kubypass.datapath.pins import Pins
from kubypass.errors import ConfigError, KernelError
from kubypass.kernel import mounts, sysctl
from kubypass.kernel.attach.clsact import remove_clsact
from kubypass.kernel.netlink import Netlink
from kubypass.node.facts import interface_index
from kubypass.node.pod_records import read_pods
from kubypass.node.record import State, forget_state, load_state
from kubypass.node.routes import ROUTE_PROTOCOL

_STOP_S = 10.0


def cleanup(run: Path, bpffs: Path, *, force: bool) -> list[str]:
    """Returns a line for each thing that was removed or put back; doing it twice is fine."""
    pid = running_agent(run)
    if pid is not None:
        if not force:
            raise ConfigError(
                f"--run {run}: an agent runs (pid {pid})", hint="stop it, or use --force"
            )
        _stop(pid, run)
    state = load_state(run)
    done = [f"stopped the agent (pid {pid})"] if pid is not None else []
    if not state.tcx:
        done += _remove_filters([*state.devices, *_pod_devices(run)])
    directory = Pins(bpffs).root
    if directory.is_dir():
        count = sum(1 for path in directory.rglob("*") if path.is_file())
        shutil.rmtree(directory)
        done.append(f"removed {count} pinned programs, links and maps from {directory}")
    done += _remove_routes()
    done += _remove_plugin(run, state)
    for name, value in state.sysctls.items():
        if sysctl.read(name) != value:
            sysctl.write(name, value)
            done.append(f"set {name} back to {value}")
    if state.mounted_bpffs and mounts.is_bpffs(bpffs):
        mounts.unmount(bpffs)
        done.append(f"unmounted {bpffs}")
    forget_state(run)
    for name in ("agent.sock", "agent.lock", SOCKET):
        (run / name).unlink(missing_ok=True)
    return done


def _remove_plugin(run: Path, state: State) -> list[str]:
    """The runtime's configuration as it was. The plugin itself stays as long as a pod needs it to be deleted."""
    if not state.cni_conf_dir:
        return []
    directory, program = Path(state.cni_conf_dir), Path(state.cni_bin_dir) / conflist.PLUGIN
    done = [f"removed {path}" for path in conflist.remove([directory / conflist.CONFLIST])]
    done += [f"put {directory / name} back" for name in conflist.put_back(directory)]
    pods = sum(1 for _ in (run / "pods").glob("[!.]*.json"))
    if pods:
        return [*done, f"left {program}: {pods} pods of this node need it to be deleted"]
    shutil.rmtree(run / DELETES, ignore_errors=True)
    (run / MARKS).unlink(missing_ok=True)
    return [*done, *(f"removed {path}" for path in conflist.remove([program]))]


def _remove_filters(devices: list[str]) -> list[str]:
    done = []
    for name in devices:
        index = interface_index(name)
        if index is not None:
            remove_clsact(index)
            done.append(f"removed the filters of {name}")
    return done


def _pod_devices(run: Path) -> list[str]:
    return [pod.interface for pod in read_pods(run / "pods")[0]]


def _stop(pid: int, run: Path) -> None:
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while running_agent(run) is not None:
        if time.monotonic() > deadline:
            raise KernelError(
                "stop", f"the agent (pid {pid})", 0, "end it by hand and run cleanup again"
            )
        time.sleep(0.02)


def _remove_routes() -> list[str]:
    with Netlink() as netlink:
        ours = [route for route in netlink.routes() if route.protocol == ROUTE_PROTOCOL]
        for route in ours:
            netlink.delete_route(route)
    return [f"removed {len(ours)} routes"] if ours else []
