# SPDX-License-Identifier: Apache-2.0
"""Whatever others undo in the kernel is seen and put back at once, and told."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from kubypass.errors import KernelError
from kubypass.kernel import mounts
from kubypass.kernel.attach.clsact import ClsactHook
from kubypass.kernel.attach.link import Link
from kubypass.kernel.netns import inside
from kubypass.kernel.program import Program
from kubypass_lab.bench.cluster import write_file
from kubypass_lab.bench.node import BareNode
from tests.agent.bare_device import TUN, device
from tests.agent.undo import WITHOUT_TCX, healthz, log, on, problems, root, started, wait, write_pod

pytestmark = pytest.mark.skipif(not root(), reason="needs root: loads BPF programs")


def pins(node: BareNode) -> dict[str, tuple[int, bytes]]:
    """The program of each pinned link, and where it is attached."""
    found: dict[str, tuple[int, bytes]] = {}
    directory = Path(node.root, "bpf", "kubypass", "links")
    for path in directory.iterdir() if directory.is_dir() else ():
        with suppress(KernelError):  # it is being replaced
            link = Link.open_pinned(str(path))
            found[path.name] = (link.program_id, link.info()[16:24])
    return found


@pytest.mark.parametrize(
    "name",
    [
        "net.ipv4.ip_forward",
        "net.ipv6.conf.all.forwarding",
        "net.ipv4.conf.eth0.forwarding",
        "net.ipv6.conf.eth0.forwarding",
        "net.ipv4.conf.pod0.forwarding",
        "net.ipv4.conf.lo.accept_local",
    ],
)
def test_a_sysctl_that_is_switched_off(node: BareNode, name: str) -> None:
    write_pod(node, "one", "pod0", "10.1.0.1")
    with started(node):
        for _ in range(2):
            on(node, "sysctl", "-qw", f"{name}=0")
            wait(node, lambda: on(node, "sysctl", "-n", name) == "1\n", f"{name} to be on")
        wait(node, lambda: "WARNING repaired" in log(node), "the repair to be told")
        wait(node, lambda: healthz(node) == (200, "200"), "the node to be healthy")


@pytest.mark.parametrize("device", ["lo", "pod0"])
def test_a_strict_reverse_path_filter(node: BareNode, device: str) -> None:
    """It is loose where we know better who sends. Of a device's value and that of `all`, the larger one counts."""
    write_pod(node, "one", "pod0", "10.1.0.1")
    write_filter(node, "all=1")
    with started(node):
        wait(node, lambda: read_filter(node, device) == 2, "a loose filter at first")
        for value in (0, 1, 0):  # each is strict, with a 1 of `all`
            write_filter(node, f"{device}={value}")
            wait(node, lambda: read_filter(node, device) == 2, "a loose filter")
        write_filter(node, "all=2")
        write_filter(node, f"{device}=1")  # still loose by that of `all`
        write_filter(node, "all=0")
        wait(node, lambda: read_filter(node, device) == 2, "a loose filter without that of all")
        wait(node, lambda: healthz(node) == (200, "200"), "the node to be healthy")
        assert problems(node) == []


def test_a_reverse_path_filter_from_before(node: BareNode) -> None:
    """The device of a new pod is no repair, nor is a filter that is not ours; a pod that was there counts at once."""
    write_filter(node, "default=1")
    write_pod(node, "one", "pod0", "10.1.0.1")
    with started(node):
        wait(node, lambda: read_filter(node, "pod0") == 2, "a loose filter of the first pod")
        write_pod(node, "two", "pod1", "10.1.0.2")
        wait(node, lambda: read_filter(node, "pod1") == 2, "a loose filter of the second pod")
        write_filter(node, "far=1")
        write_pod(node, "three", "pod2", "10.1.0.3")
        wait(node, lambda: read_filter(node, "pod2") == 2, "a loose filter of the third pod")
        assert "repaired" not in log(node)
        assert read_filter(node, "far") == 1


def write_filter(node: BareNode, assignment: str) -> None:
    """Sets one filter: `pod0=1`."""
    device, _, value = assignment.partition("=")
    on(node, "sysctl", "-qw", f"net.ipv4.conf.{device}.rp_filter={value}")


def read_filter(node: BareNode, device: str) -> int:
    return int(on(node, "sysctl", "-n", f"net.ipv4.conf.{device}.rp_filter"))


def test_links_that_are_detached_replaced_or_unpinned(node: BareNode) -> None:
    write_pod(node, "one", "pod0", "10.1.0.1")
    with started(node):
        before = pins(node)
        assert {"pod0-ingress", "eth0-ingress", "cgroup-connect4"} <= before.keys()
        directory = Path(node.root, "bpf", "kubypass", "links")
        for name in before:
            subprocess.run(["bpftool", "link", "detach", "pinned", directory / name], check=True)
        wait(node, lambda: pins(node) == before, "every link to be attached again")
        programs = directory.parent / "programs"
        other = Program.open_pinned(str(programs / "to_pod"))
        for name in ("eth0-egress", "pod0-egress"):
            Link.open_pinned(str(directory / name)).update(other)
        wait(node, lambda: pins(node) == before, "our program again")
        for path in (*directory.iterdir(), *programs.iterdir()):
            path.unlink()
        wait(node, lambda: pins(node) == before, "every link to be pinned again")
        wait(node, lambda: len(list(programs.iterdir())) > 10, "the programs' pins")
        shutil.rmtree(directory.parent)
        wait(node, lambda: directory.is_dir() and pins(node) == before, "every directory again")
        assert node.ask("/status")[0] == 200
        wait(node, lambda: healthz(node) == (200, "200"), "the node to be healthy")
        assert problems(node) == []


def test_a_bpf_filesystem_that_is_unmounted(node: BareNode) -> None:
    """Links end with their last pin or descriptor: the agent holds them, mounts a filesystem and pins them."""
    with started(node):
        before = pins(node)
        assert before
        subprocess.run(["umount", node.root / "bpf"], check=True)
        wait(node, lambda: mounts.is_bpffs(node.root / "bpf") and pins(node) == before, "the pins")
        wait(node, lambda: healthz(node) == (200, "200"), "the node to be healthy")
        assert node.ask("/services")[0] == 200
        assert problems(node) == []


def filters(node: BareNode, device: str) -> tuple[int, int]:
    with inside(f"/run/netns/{node.namespace}"):
        index = socket.if_nametoindex(device)
        return ClsactHook(index, "ingress").program_id, ClsactHook(index, "egress").program_id


@pytest.mark.parametrize("device", ["eth0", "pod0"])
def test_filters_that_are_removed_or_replaced(node: BareNode, device: str) -> None:
    write_pod(node, "one", "pod0", "10.1.0.1")
    with started(node, before=WITHOUT_TCX):
        before = filters(node, device)
        assert all(before)
        on(node, "tc", "qdisc", "del", "dev", device, "clsact")
        wait(node, lambda: filters(node, device) == before, f"the filters of {device}")
        on(node, "tc", "filter", "del", "dev", device, "ingress")
        wait(node, lambda: filters(node, device) == before, f"the filter of {device}")
        with inside(f"/run/netns/{node.namespace}"):
            other = Program.open_pinned(str(node.root / "bpf/kubypass/programs/to_pod"))
            ClsactHook(socket.if_nametoindex(device), "ingress").attach(other)
        wait(node, lambda: filters(node, device) == before, f"our program on {device}")


def test_a_route_to_another_nodes_pods(node: BareNode) -> None:
    other = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "other"},
        "spec": {"podCIDRs": ["10.1.2.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.168.1.32"}]},
    }
    write_file(node.manifests / "node.json", other)
    with started(node, "--auto-direct-node-routes=true"):
        wait(node, lambda: "10.1.2.0/24" in on(node, "ip", "route"), "the route")
        on(node, "ip", "route", "del", "10.1.2.0/24")
        wait(node, lambda: "10.1.2.0/24" in on(node, "ip", "route"), "the route again")


def test_forwarding_that_cannot_be_switched_on_again(node: BareNode) -> None:
    """/proc/sys is read-only for the agent: the node says that it does not serve, until somebody helps."""
    read_only = 'mount --make-rprivate / && mount -o bind,ro /proc/sys /proc/sys && exec "$@"'
    on(node, "sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv4.conf.lo.accept_local=1")
    with started(node, under=["unshare", "-m", "sh", "-c", read_only, "sh"]):
        wait(node, lambda: healthz(node) == (503, "503"), "the node not to be healthy")
        (line,) = wait(node, lambda: [p for p in problems(node) if "ip_forward" in p], "a problem")
        assert "Read-only file system" in line
        assert "ip_forward" in " ".join(node.status()["agent"]["unhealthy"])
        on(node, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        on(node, "sysctl", "-qw", "net.ipv4.conf.lo.route_localnet=1")
        wait(node, lambda: healthz(node) == (200, "200"), "the node to be healthy")
        wait(node, lambda: not problems(node), "no problem")


HANGS = """
import os, time
from kubypass.agent import health, running
health.HUNG_S = 3.0
look = running.Running.look
def hang(self):
    while os.path.exists("/proc/self/cwd/hang"):
        time.sleep(0.1)
    return look(self)
running.Running.look = hang
os.chdir({directory!r})
"""


def test_a_loop_that_hangs_is_not_healthy(node: BareNode) -> None:
    hang = node.root / "hang"
    with started(node, before=HANGS.format(directory=str(node.root))):
        for _ in range(2):
            assert wait(node, lambda: healthz(node) == (200, "200"), "the node to be healthy")
            hang.touch()
            wait(node, lambda: healthz(node) == (503, "503"), "the node not to be healthy")
            (line,) = problems(node)
            assert "its loop has hung for" in line
            assert "looking at what programs have noted" in line
            hang.unlink()


LOADS_SLOWLY = """
import os, time
from kubypass.datapath import loader
def slowly(load):
    def load_slowly(*words):
        while os.path.exists({hold!r}):
            time.sleep(0.05)
        return load(*words)
    return load_slowly
loader.load = slowly(loader.load)
loader.load_l3_programs = slowly(loader.load_l3_programs)
"""


def check_forwarding(node: BareNode) -> None:
    """Somebody switches it off: it is switched on again."""
    for name in ("net.ipv4.ip_forward", "net.ipv4.conf.pod0.forwarding"):
        on(node, "sysctl", "-qw", f"{name}=0")
        wait(node, lambda name=name: on(node, "sysctl", "-n", name) == "1\n", name)  # type: ignore[misc]


def test_forwarding_while_programs_load(node: BareNode) -> None:
    """The verifier takes seconds for new programs; those of before go on meanwhile."""
    write_pod(node, "one", "pod0", "10.1.0.1")
    hold = node.root / "hold"
    with started(node, before=LOADS_SLOWLY.format(hold=str(hold))):
        wait(node, lambda: healthz(node) == (200, "200"), "the node to be healthy")
        hold.touch()
        on(node, "sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 50000")
        on(node, "ip", "addr", "add", "192.168.1.99/24", "dev", "eth0")
        wait(node, lambda: "programs are replaced" in log(node), "new programs to be loaded")
        check_forwarding(node)
        assert hold.exists()
        assert log(node).count("programs=loaded") == 1
        hold.unlink()
        wait(node, lambda: log(node).count(" attached ") == 2, "the new programs")
        wait(node, lambda: healthz(node) == (200, "200"), "the node to be healthy again")
        assert problems(node) == []


def test_forwarding_while_programs_for_other_devices_load(node: BareNode) -> None:
    """A device without Ethernet header has programs of its own, which are loaded when the first one comes."""
    write_pod(node, "one", "pod0", "10.1.0.1")
    hold = node.root / "hold"
    with started(node, before=LOADS_SLOWLY.format(hold=str(hold))):
        wait(node, lambda: healthz(node) == (200, "200"), "the node to be healthy")
        hold.touch()
        with device(node, TUN):
            wait(node, lambda: " uplinks devices=" in log(node), "the device to be noticed")
            check_forwarding(node)
            assert hold.exists()
            hold.unlink()
            wait(
                node, lambda: "tun0" in str(node.status()["kube_proxy_replacement"]), "its programs"
            )
            assert problems(node) == []
