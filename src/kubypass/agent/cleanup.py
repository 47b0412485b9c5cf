# SPDX-License-Identifier: Apache-2.0
"""Takes everything of ours off this node: programs, pins, routes, and what the record names. Pods' devices stay."""

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
from kubypass.kernel.attach.clsact import remove_clsact
from kubypass.kernel.netlink import Netlink
from kubypass.node.attached_programs import forget_attached
from kubypass.node.facts import interface_index
from kubypass.node.mounts import unmount_bpffs
from kubypass.node.no_conntrack import remove_no_conntrack
from kubypass.node.pod_records import read_pods
from kubypass.node.record import Change, Kind, Record
from kubypass.node.reserved_ports import release_node_ports
from kubypass.node.routes import ROUTE_PROTOCOL
from kubypass.node.sysctls import restore_sysctl

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
    record = Record(run)
    done = [f"stopped the agent (pid {pid})"] if pid is not None else []
    done += _remove_filters(record, run)
    done += _remove_pins(bpffs)
    done += _remove_routes()
    done += record.undo(
        {
            Kind.CNI_CONFIGURATION: _remove_configuration,
            Kind.CNI_PLUGIN: lambda change: _remove_plugin(run, Path(change.subject)),
            Kind.NO_CONNTRACK: remove_no_conntrack,
            Kind.HOST_ROUTING: restore_sysctl,
            Kind.SYSCTL: restore_sysctl,
            Kind.RESERVED_PORTS: release_node_ports,
            Kind.MOUNT: unmount_bpffs,
        }
    )
    forget_attached(run)
    for name in ("agent.sock", "agent.lock", SOCKET):
        (run / name).unlink(missing_ok=True)
    return done


def _remove_pins(bpffs: Path) -> list[str]:
    """Removes what is pinned; the links end with their pins."""
    directory = Pins(bpffs).root
    if not directory.is_dir():
        return []
    count = sum(1 for path in directory.rglob("*") if path.is_file())
    shutil.rmtree(directory)
    return [f"removed {count} pinned programs, links and maps from {directory}"]


def _remove_configuration(change: Change) -> list[str]:
    """Puts the configuration of the container runtime back as it was."""
    directory = Path(change.subject)
    done = [f"removed {path}" for path in conflist.remove([directory / conflist.CONFLIST])]
    return done + [f"put {directory / name} back" for name in conflist.put_back(directory)]


def _remove_plugin(run: Path, directory: Path) -> list[str]:
    """Removes the CNI plugin, unless a pod needs it to be deleted."""
    program = directory / conflist.PLUGIN
    pods = sum(1 for _ in (run / "pods").glob("[!.]*.json"))
    if pods:
        return [f"left {program}: {pods} pods of this node need it to be deleted"]
    shutil.rmtree(run / DELETES, ignore_errors=True)
    (run / MARKS).unlink(missing_ok=True)
    return [f"removed {path}" for path in conflist.remove([program])]


def _remove_filters(record: Record, run: Path) -> list[str]:
    """Removes the filters of the devices in the record, and those of pods' devices, which have records of their own."""
    if not any(change.kind == Kind.FILTERS for change in record.changes):
        return []
    done = record.undo({Kind.FILTERS: lambda change: _remove_device_filters(change.subject)})
    return done + [line for name in _pod_devices(run) for line in _remove_device_filters(name)]


def _remove_device_filters(name: str) -> list[str]:
    index = interface_index(name)
    if index is None:
        return []
    remove_clsact(index)
    return [f"removed the filters of {name}"]


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
        ours = netlink.routes(protocol=ROUTE_PROTOCOL)
        for route in ours:
            netlink.delete_route(route)
    return [f"removed {len(ours)} routes"] if ours else []
