# SPDX-License-Identifier: Apache-2.0
"""A namespace for all rows, programs that are loaded once, and empty maps for each row."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from scapy.layers.l2 import ARP, Ether

from kubypass.errors import KernelError
from kubypass.kernel.bpf import Map
from kubypass.kernel.netns import inside
from kubypass.kernel.program import CHECKSUM_COMPLETE
from tests.packet.lab import Lab, config, native_networks
from tests.packet.packets import V4, V6, Addresses
from tests.packet.pipeline import Pipeline, entered, load
from tests.packet.uplink import namespace, remember_uplink
from tests.packet.variants import NODE_ADDRESSES


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cost", action="store_true", help="ns a packet, of the packets of every row")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if COSTS:
        terminalreporter.section(
            "ns a packet: least of single runs, less that of a packet that is not IP"
        )
        for name, program, ns in sorted(COSTS):
            terminalreporter.write_line(f"{ns - min(NOTHING):7.0f}  {program:<12} {name}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These need root, for BPF and namespaces."""
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs root: loads BPF programs"))


RUNS = 100
COSTS: list[tuple[str, str, float]] = []
NOTHING: list[float] = []
"""What a packet that is not IP costs, after each row."""


@pytest.fixture(scope="session")
def netns() -> Iterator[str]:
    with namespace() as path:
        remember_uplink(path)
        yield path


@pytest.fixture(scope="session")
def loaded(netns: str) -> Lab:
    made = Lab(netns)
    made.load(config(**native_networks()))
    return made


@pytest.fixture(params=["plain", "summed", "driver"])
def lab(loaded: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Each row three times.

    With a checksum that nobody looked at, as from a device that has summed the packet, and with XDP before from_uplink.
    """
    loaded.reset()
    loaded.flags = CHECKSUM_COMPLETE if request.param == "summed" else 0
    loaded.driver, loaded.repeats = request.param == "driver", 0
    if loaded.flags:
        try:
            loaded.run("to_uplink", Ether() / ARP())
        except KernelError:
            pytest.skip("this kernel's test run knows no CHECKSUM_COMPLETE (Linux 6.11)")
    elif request.config.getoption("--cost", default=False):
        loaded.repeats = RUNS
    yield loaded
    measured = list(loaded.costs)
    if measured:
        loaded.reset()
        loaded.run("to_uplink", Ether() / ARP())
        ((_, nothing),) = loaded.costs
        NOTHING.append(nothing)
        COSTS.extend((request.node.name, program, ns) for program, ns in measured)


@pytest.fixture
def driver(loaded: Lab) -> Lab:
    """The lab with XDP before from_uplink."""
    loaded.reset()
    loaded.flags, loaded.repeats, loaded.driver = 0, 0, True
    return loaded


@pytest.fixture
def quiet(loaded: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """For figures, which depend on the machine and on what else it does: `--cost` asks for them."""
    if not request.config.getoption("--cost", default=False):
        pytest.skip("a measurement: --cost runs it")
    loaded.reset()
    loaded.flags, loaded.repeats, loaded.driver = 0, 0, False
    with inside(loaded.path):
        yield loaded


@pytest.fixture(params=[V4, V6], ids=["ipv4", "ipv6"])
def who(request: pytest.FixtureRequest) -> Addresses:
    return request.param


@pytest.fixture(params=["TCP", "UDP"])
def protocol(request: pytest.FixtureRequest) -> str:
    return request.param


SETTINGS = {
    "interface": {},
    "opened": {"bpf-lb-external-clusterip": "true"},
    "no detector": {"detect-local-mode": "none", "bpf-lb-external-clusterip": "true"},
    "pods' network": {
        "detect-local-mode": "ClusterCIDR",
        "cluster-cidr": "10.233.0.0/16,fd00:10:233::/48",
        "service-cidrs": "10.233.30.0/24,fd00:10:233::/112",
    },
    "other network": {
        "detect-local-mode": "ClusterCIDR",
        "cluster-cidr": "10.234.0.0/16,fd00:10:234::/48",
        "bpf-lb-external-clusterip": "true",
    },
    "IPv4's network": {
        "detect-local-mode": "ClusterCIDR",
        "cluster-cidr": "10.233.0.0/16",
        "bpf-lb-external-clusterip": "true",
    },
    "IPv6's network": {
        "detect-local-mode": "ClusterCIDR",
        "cluster-cidr": "fd00:10:233::/48",
        "bpf-lb-external-clusterip": "true",
    },
    "hidden": {"masquerade-all": "true", "nodeport-addresses": "primary"},
    "maglev": {
        "bpf-lb-algorithm": "maglev",
        "bpf-lb-algorithm-annotation": "true",
        "bpf-lb-maglev-table-size": "1021",
        "bpf-lb-maglev-hash-seed": "c2V2ZW4gZHdhcmZz",
        "bpf-lb-external-clusterip": "true",
    },
    "by annotation": {
        "bpf-lb-algorithm-annotation": "true",
        "bpf-lb-maglev-table-size": "1021",
        "bpf-lb-maglev-hash-seed": "c2V2ZW4gZHdhcmZz",
    },
    "silent": {"service-no-backend-response": "drop", "nodeport-addresses": "10.0.0.0/8"},
}
"""The settings of rows from objects."""


@pytest.fixture(scope="module")
def start(netns: str) -> Iterator[Callable[[str], Pipeline]]:
    """Begins an empty cluster on a node with one of SETTINGS; programs are loaded when they are asked for."""
    maps: dict[str, Map] = {}
    made: dict[str, Lab] = {}

    def begin(name: str) -> Pipeline:
        if name not in made:
            made[name] = load(netns, SETTINGS[name], NODE_ADDRESSES, maps)
        pipeline = Pipeline(made[name], NODE_ADDRESSES)
        pipeline.start(made[name], SETTINGS[name])
        return pipeline

    first = Lab(netns)
    with entered(first):
        yield begin


@pytest.fixture
def opened(start: Callable[[str], Pipeline]) -> Pipeline:
    """Where ClusterIPs answer to everybody."""
    return start("opened")
