# SPDX-License-Identifier: Apache-2.0
"""Which uplinks XDP fits, and what is said of the others."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from kubypass.errors import KernelError
from kubypass.kernel.attach.xdp import XdpMode
from kubypass.kernel.ethtool import DriverFacts
from kubypass.kernel.netlink import FrameHeader, Link
from kubypass.node.xdp_fit import AcceleratedDevice, takes_redirects, why_not, why_refused

ETH0 = Link(2, "eth0", bytes(6), 1500, up=True)
MODES = ("native", "best-effort", "generic")
DRIVER = DriverFacts("virtio_net", queues=2, max_queues=4)


@pytest.mark.parametrize(
    ("link", "driver", "frags", "modes", "said"),
    [
        (ETH0, DRIVER, True, (), ""),
        (replace(ETH0, header=FrameHeader.NONE), DRIVER, True, MODES, "no Ethernet header"),
        (replace(ETH0, kind="bond"), DRIVER, True, MODES[:2], "parts of this bond: use generic"),
        (replace(ETH0, kind="team"), DRIVER, True, MODES[:2], "parts of this team: use generic"),
        (ETH0, replace(DRIVER, lro=True), True, MODES[:2], "ethtool -K eth0 lro off"),
        (replace(ETH0, mtu=9000), DRIVER, True, (), ""),
        (replace(ETH0, mtu=9000), DRIVER, False, MODES[:2], "MTU 9000 is above 3498"),
        (replace(ETH0, mtu=3498), DRIVER, False, (), ""),
        (replace(ETH0, kind="veth"), DRIVER, True, ("best-effort",), "write native if it has"),
    ],
)
def test_what_speaks_against_it(
    link: Link, driver: DriverFacts, frags: bool, modes: tuple[str, ...], said: str
) -> None:
    for wanted in MODES:
        found = why_not(link, [link], driver, wanted, frags=frags)
        assert bool(found) == (wanted in modes), (wanted, found)
        if found:
            assert said in found


def test_vlans_on_a_device() -> None:
    above = Link(9, "eth0.7", bytes(6), 1500, up=True, kind="vlan", lower=2)
    elsewhere = replace(above, lower=3)
    for wanted in MODES:
        found = why_not(ETH0, [ETH0, above], DRIVER, wanted, frags=True)
        assert found.startswith("eth0.7 are VLANs on it")
        assert not why_not(ETH0, [ETH0, elsewhere], DRIVER, wanted, frags=True)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EBUSY, "another XDP program is attached, and is left alone"),
        (errno.EEXIST, "another XDP program is attached, and is left alone"),
        (errno.EOPNOTSUPP, "the driver virtio_net has no native XDP"),
        (errno.EINVAL, "it uses 2 of 4 pairs of queues"),
    ],
)
def test_what_the_kernel_refuses(number: int, said: str) -> None:
    assert said in why_refused(KernelError("attach to", "device 2 XDP native", number), DRIVER)


def test_a_line_of_the_status() -> None:
    assert str(AcceleratedDevice("eth0", XdpMode.NATIVE)) == "eth0 native"
    assert str(AcceleratedDevice("eth1", None, "so it is")) == "eth1 none: so it is"


def test_who_takes_redirects() -> None:
    assert takes_redirects(DRIVER)
    assert not takes_redirects(DriverFacts("unknown"))
