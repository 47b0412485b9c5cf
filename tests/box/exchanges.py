# SPDX-License-Identifier: Apache-2.0
"""What a client says, and a pod repeats."""

from __future__ import annotations

from tests.box.conftest import HERE, REPOSITORY, Cluster


def exchange(cluster: Cluster, host: str, kind: str, to: tuple[str, int], size: int) -> str:
    """The pod that has repeated what was said."""
    python = (REPOSITORY / ".venv" / "bin" / "python").as_posix()
    script = (HERE / "exchange.py").as_posix()
    address = to[0].strip("[]")
    return cluster.run(host, python, script, kind, address, str(to[1]), str(size))
