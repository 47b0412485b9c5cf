# SPDX-License-Identifier: Apache-2.0
"""Waits for work that takes seconds in the kernel, and does meanwhile what cannot wait.

The verifier looks at our programs for seconds, within bpf(2), for which ctypes releases the interpreter. The work runs
in a thread that shares nothing with the rest of the agent; the agent's own thread does everything else, as always.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

Made = TypeVar("Made")
_PAUSE_S = 0.5


def do_beside(work: Callable[[], Made], meanwhile: Callable[[], None]) -> Made:
    """Returns what the work makes, or raises what it raises. `meanwhile` is called now and then until it ends."""
    with ThreadPoolExecutor(1, thread_name_prefix="beside") as pool:
        made: Future[Made] = pool.submit(work)
        while not wait([made], timeout=_PAUSE_S).done:
            meanwhile()
        return made.result()
