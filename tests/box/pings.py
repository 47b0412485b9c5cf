# SPDX-License-Identifier: Apache-2.0
"""Pings from pods, also to the client's host, which is outside of the cluster."""

from __future__ import annotations

from kubypass_lab.box.topology import CLIENT_ADDRESSES
from tests.box.clients import PYTHON
from tests.box.conftest import HERE, Cluster

OUTSIDE = {
    4: CLIENT_ADDRESSES[0].split("/")[0],
    6: f"[{CLIENT_ADDRESSES[1].split('/')[0]}]",
}


def ping(cluster: Cluster, pod: str, address: str, size: int = 56, ttl: int = 64) -> str:
    script = (HERE / "ping.py").as_posix()
    return cluster.run(pod, PYTHON, script, address.strip("[]"), str(size), str(ttl)).strip()
