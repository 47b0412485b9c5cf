# SPDX-License-Identifier: Apache-2.0
"""A scene whose connections are translated packet by packet, with a server outside: what host routing is tried with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubypass_lab.box.steps_outside import server_outside
from tests.box.conftest import HERE, guide_settings, own_box
from tests.box.scene import Scene


@contextmanager
def forwarding_scene(kind: str, directory: Path, settings: str = "") -> Iterator[Scene]:
    """The scene with these settings beside the guide's; `kind` as in box_name."""
    path = guide_settings(directory, f'bpf-lb-sock: "false"\n{settings}')
    with (
        own_box(kind, path, HERE / "scenes.yaml") as box,
        server_outside(box),
        Scene(box, at_sockets=False) as scene,
    ):
        scene.route()
        yield scene
