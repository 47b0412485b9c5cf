# SPDX-License-Identifier: Apache-2.0
"""Measures what it costs that pods reach the outside with an address of their node: off and on, in turns.

A pod asks nginx on the client's host. The box's network has routes to pods, so that they are answered without
masquerading too. Ratios are p50(off) / p50(on) of the same round: 1.0 is no cost.
"""

from __future__ import annotations

import ipaddress
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubypass.errors import KubypassError
from kubypass_lab.bench.turns import Say, Target, box_for_turns, measure_turns
from kubypass_lab.box.box import Box
from kubypass_lab.box.enter import find_target, run_in
from kubypass_lab.box.paths import CLIENT
from kubypass_lab.box.patience import ANSWER_S, DEADLINE_S
from kubypass_lab.box.process import spawn, stop, wait_until
from kubypass_lab.box.record import read_pods
from kubypass_lab.box.topology import CLIENT_ADDRESSES
from kubypass_lab.checkout import CHECKOUT

_OFF = 'enable-ipv4-masquerade: "false"\nenable-ipv6-masquerade: "false"\n'
MODES = {"off": _OFF, "on": ""}
_NAME = "benchmasq"
_PORT = 8088
_NGINX = """
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{}}
http {{
  access_log off;
  keepalive_requests 100000000;
  server {{ listen {port}; listen [::]:{port}; location / {{ return 200 "outside"; }} }}
}}
"""


def measure(rounds: int, requests: int, say: Say) -> dict[str, object]:
    """Figures by family, kind of connection, and mode."""
    kubekey = CHECKOUT / "examples/families/dual-stack.yaml"
    with (
        box_for_turns(_NAME, kubekey, say) as box,
        tempfile.TemporaryDirectory() as directory,
        _nginx(box, Path(directory)),
    ):
        rows = measure_turns(box, MODES, _targets(box), rounds=rounds, requests=requests, say=say)
    return {"rounds": rounds, "requests": requests, "rows": rows}


def _targets(box: Box) -> Iterator[Target]:
    client = next(pod for pod in read_pods(box.paths) if pod.labels["app"] == "client")
    for text in CLIENT_ADDRESSES:
        address = ipaddress.ip_interface(text).ip
        host = f"[{address}]" if address.version == 6 else f"{address}"
        yield Target(f"IPv{address.version}", client.name, f"{host}:{_PORT}")


@contextmanager
def _nginx(box: Box, directory: Path) -> Iterator[None]:
    """A server on the client's host for the length of a block."""
    configured = directory / "nginx.conf"
    configured.write_text(_NGINX.format(directory=directory, port=_PORT))
    server = spawn(
        ["nginx", "-p", str(directory), "-c", str(configured)],
        cgroup=box.paths.host_cgroup(CLIENT),
        namespace=box.paths.namespace(CLIENT),
        log=directory / "nginx.log",
        env={},
    )
    ask = ["curl", "-s", "-m", f"{ANSWER_S:.0f}", f"http://127.0.0.1:{_PORT}/"]
    try:
        if not wait_until(lambda: "outside" in run_in(find_target(box, CLIENT), ask).stdout):
            raise KubypassError(f"nginx: {(directory / 'nginx.log').read_text().strip()}")
        yield
    finally:
        stop(server, signal.SIGTERM, DEADLINE_S)
