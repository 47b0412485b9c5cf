# SPDX-License-Identifier: Apache-2.0
"""A real agent attaches XDP to its uplinks, says how and why not, follows them, and takes it off again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kubypass.datapath import layout
from kubypass.datapath.pins import Pins
from kubypass.errors import KernelError
from kubypass.kernel import netns
from kubypass.kernel.attach.link import Link
from kubypass.kernel.attach.xdp import XdpHook, XdpMode
from kubypass.kernel.libbpf import ObjectFile
from kubypass.kernel.program import Program
from kubypass_lab.bench.node import BareNode
from tests.agent.undo import log, on, problems, root, started, wait
from tests.house.sources import ROOT

pytestmark = pytest.mark.skipif(not root(), reason="needs root: loads BPF programs")
KEY = "--bpf-lb-acceleration"
_MODES = {0: "none", 1: "native", 2: "generic"}


def attached(node: BareNode, device: str = "eth0") -> str:
    """How a program is attached to the device, as the kernel says it."""
    (found,) = json.loads(on(node, "ip", "-j", "link", "show", "dev", device))
    return _MODES[found.get("xdp", {}).get("mode", 0)]


def entered(node: BareNode) -> set[tuple[int, str]]:
    """The devices whose frames XDP handles: index and MAC address."""
    table = Pins(node.root / "bpf").open_map("xdp_devices")
    rows = (layout.XdpDevice.unpack(value) for _, value in table.items())
    return {(row.ifindex, bytes(row.mac).hex(":")) for row in rows if row.ifindex}


def device(node: BareNode, name: str = "eth0") -> tuple[int, str]:
    (found,) = json.loads(on(node, "ip", "-j", "link", "show", "dev", name))
    return found["ifindex"], found["address"]


def row(node: BareNode) -> dict[str, Any]:
    found: dict[str, Any] = node.status()["xdp_acceleration"]
    return found


def foreign_program(node: BareNode) -> Link:
    """Somebody else's program on eth0, for as long as the link is held."""
    with ObjectFile(ROOT / "build/tests/seam.xdp.bpf.o") as opened:
        sizes = ("services", "backends", "slots", "flows", "transient_flows", "fragments")
        opened.set_max_entries(dict.fromkeys(sizes, 64))
        opened.load()
        program = Program(os.dup(opened.program_fd("abilities")))
    with netns.inside(f"/run/netns/{node.namespace}"):
        return XdpHook(device(node)[0], XdpMode.NATIVE).attach(program)


def refusal(node: BareNode, *options: str) -> str:
    """What an agent says that ends at its start."""
    program = [str(Path(sys.executable).parent / "kubypass"), "agent", "--node", "bench"]
    words = ["--manifests", str(node.manifests), *node.agent_options, *options]
    command = ["nsenter", f"--net=/run/netns/{node.namespace}", *program, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    return done.stderr


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_it_is_attached_and_taken_off(node: BareNode, mode: str) -> None:
    with started(node, f"{KEY}={mode}"):
        assert attached(node) == mode
        assert entered(node) == {device(node)}
        found = row(node)
        assert (found["wanted"], found["effective"]) == (mode.title(), mode.title())
        assert found["devices"][0]["mode"] == mode
        assert found["details"][0].startswith(f"eth0 {mode}")
    assert attached(node) == mode, "traffic goes on without an agent"
    with started(node, f"{KEY}={mode}"):  # an agent after it finds all as it was
        assert node.status()["writes"]["maps"] == 0
    with started(node):
        assert attached(node) == "none"
        assert not entered(node)
        assert row(node)["effective"] == "Disabled"


def test_another_mode_takes_its_place(node: BareNode) -> None:
    for mode in ("native", "generic", "native"):
        with started(node, f"{KEY}={mode}"):
            assert attached(node) == mode
            assert entered(node) == {device(node)}


def test_cleanup_takes_it_off(node: BareNode) -> None:
    with started(node, f"{KEY}=generic"):
        assert attached(node) == "generic"
    program = str(Path(sys.executable).parent / "kubypass")
    on(node, program, "cleanup", *node.options)
    assert attached(node) == "none"


def test_best_effort_on_a_veth(node: BareNode) -> None:
    """Nobody can tell from here whether the other end takes what leaves: the status says what to write."""
    with started(node, f"{KEY}=best-effort"):
        assert attached(node) == "none"
        found = row(node)
        assert (found["wanted"], found["effective"]) == ("Best-Effort", "Disabled")
        assert "no uplink can" in found["why"]
        assert "XDP program too" in found["devices"][0]["reason"]
        assert not problems(node)


def test_somebody_else_s_program_stays(node: BareNode) -> None:
    with closing(foreign_program(node)) as held:
        before = held.info()
        said = refusal(node, f"{KEY}=native")
        assert "bpf-lb-acceleration: native: eth0 none: another XDP program is attached" in said
        assert "best-effort" in said
        assert held.info() == before
        assert not entered(node)
    with started(node, f"{KEY}=native"):
        assert attached(node) == "native"


def test_a_device_that_comes_later_is_a_problem(node: BareNode) -> None:
    """The agent goes on, and the device is served in tc."""
    with started(node, f"{KEY}=native"):
        on(node, "ip", "tuntap", "add", "tun7", "mode", "tun")
        on(node, "ip", "link", "set", "tun7", "up")
        on(node, "ip", "addr", "add", "192.168.7.1/24", "dev", "tun7")
        wait(node, lambda: any("Device tun7" in one for one in problems(node)), "a problem")
        (said,) = [one for one in problems(node) if "Device tun7" in one]
        assert "its packets have no Ethernet header" in said
        found = row(node)
        assert found["effective"] == "Best-Effort"
        assert "not every uplink" in found["why"]


def test_it_follows_the_device(node: BareNode) -> None:
    """Frames for a MAC address that the device has no more are not ours."""
    with started(node, f"{KEY}=generic"):
        on(node, "ip", "link", "set", "eth0", "address", "02:00:00:00:99:01")
        wait(node, lambda: entered(node) == {device(node)}, "the new MAC address")
        assert device(node)[1] == "02:00:00:00:99:01"


def test_who_detaches_it_is_undone(node: BareNode) -> None:
    with started(node, f"{KEY}=generic"):
        pin = next((node.root / "bpf/kubypass/links").glob("eth0-generic"))
        on(node, "bpftool", "link", "detach", "pinned", str(pin))
        assert attached(node) == "none"
        wait(node, lambda: attached(node) == "generic", "the program to be back")


def test_a_kernel_refuses_a_second_program(node: BareNode) -> None:
    with started(node, f"{KEY}=native"), pytest.raises(KernelError):
        foreign_program(node)


AT_THE_SWITCH = """
import sys
from kubypass.datapath import loader
prepare = loader.prepare_switch
def look(datapath):
    entered = [raw for _, raw in datapath.maps["xdp_devices"].items() if any(raw)]
    print("entered at the switch:", len(entered), file=sys.stderr)
    prepare(datapath)
loader.prepare_switch = look
"""


def test_it_rests_while_connections_move(node: BareNode) -> None:
    """Other maps take over the connections: XDP would open more in those before, so its table is empty meanwhile."""
    with started(node, f"{KEY}=generic"):
        assert entered(node) == {device(node)}
    larger = "--bpf-ct-global-tcp-max=300000"
    with started(node, f"{KEY}=generic", larger, before=AT_THE_SWITCH):
        assert "entered at the switch: 0" in log(node)
        assert entered(node) == {device(node)}
        assert attached(node) == "generic"
        with netns.inside(f"/run/netns/{node.namespace}"):
            link = Link.open_pinned(str(node.root / "bpf/kubypass/links/eth0-generic"))
        program = Program.open_pinned(str(node.root / "bpf/kubypass/programs/xdp_generic"))
        assert link.program_id == program.id
